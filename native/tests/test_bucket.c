/* test_bucket.c - what a bucket lets through, also for threads at once, and for one that is interrupted in the middle.
 */
#include "bucket.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "check.h"

#define SECOND      1000000000U
#define N_THREADS   4
#define N_TAKES     20000
#define N_SIGNALS   5000
#define STUCK_AFTER 60 /* seconds */

static void test_a_burst_at_once_and_then_the_rate(void)
{
    struct dp_bucket bucket;

    dp_bucket_init(&bucket, 10, 3);
    for (int round = 0; round < 2; round++) { /* however long it was idle, it holds no more than the burst */
        uint64_t now = (uint64_t)round * 100 * SECOND;
        for (int i = 0; i < 3; i++)
            CHECK(dp_bucket_take(&bucket, now));
        CHECK(!dp_bucket_take(&bucket, now) && !dp_bucket_take(&bucket, now + SECOND / 10 - 1));
        CHECK(dp_bucket_take(&bucket, now + SECOND / 10) && !dp_bucket_take(&bucket, now + SECOND / 10));
    }
}

static void test_none_ever(void)
{
    struct dp_bucket bucket;

    dp_bucket_init(&bucket, 0, 5);
    CHECK(!dp_bucket_take(&bucket, 0) && !dp_bucket_take(&bucket, 10 * (uint64_t)SECOND));
    dp_bucket_init(&bucket, 5, 0);
    CHECK(!dp_bucket_take(&bucket, 0) && !dp_bucket_take(&bucket, 10 * (uint64_t)SECOND));
}

static void test_a_clock_that_lags_gives_nothing_away(void)
{
    struct dp_bucket bucket;

    dp_bucket_init(&bucket, 10, 1);
    CHECK(dp_bucket_take(&bucket, SECOND));
    for (uint64_t lag = 0; lag < SECOND;
         lag += SECOND / 100) /* as with workers whose turns began one after the other */
        CHECK(!dp_bucket_take(&bucket, SECOND - lag) && !dp_bucket_take(&bucket, SECOND));
}

static void test_extreme_numbers(void)
{
    struct dp_bucket bucket;

    dp_bucket_init(&bucket, 1, UINT32_MAX);
    CHECK(dp_bucket_take(&bucket, 0) && dp_bucket_take(&bucket, INT64_MAX));
    dp_bucket_init(&bucket, UINT32_MAX, UINT32_MAX);
    CHECK(dp_bucket_take(&bucket, 0) && dp_bucket_take(&bucket, INT64_MAX));
}

static struct dp_bucket shared;

static void *take_many(void *context)
{
    uint32_t *taken = context;

    for (int i = 0; i < N_TAKES; i++)
        *taken += (uint32_t)dp_bucket_take(&shared, SECOND);
    return NULL;
}

static void test_threads_get_the_burst_together(void)
{
    pthread_t threads[N_THREADS];
    uint32_t taken[N_THREADS] = {0}, all = 0;

    dp_bucket_init(&shared, 1000, N_TAKES);
    for (int i = 0; i < N_THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, take_many, &taken[i]) == 0);
    for (int i = 0; i < N_THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        all += taken[i];
    }
    CHECK(all == N_TAKES);
}

static _Atomic int n_interruptions;

static void take_in_between(int signal)
{
    (void)signal;
    dp_bucket_take(&shared, SECOND);
    n_interruptions++;
}

static void *interrupt(void *thread)
{
    while (n_interruptions < N_SIGNALS) /* many a signal is merged with the one before it */
        pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return NULL;
}

/*
 * A signal handler is to the code that it interrupts what a real-time thread is to an ordinary one on a single
 * processor: the other does not run until it is done.
 */
static void test_nobody_waits_for_one_that_was_interrupted(void)
{
    pthread_t self = pthread_self(), interrupter;

    dp_bucket_init(&shared, 1000, UINT32_MAX);
    CHECK(signal(SIGUSR1, take_in_between) != SIG_ERR);
    alarm(STUCK_AFTER);
    CHECK(pthread_create(&interrupter, NULL, interrupt, &self) == 0);
    while (n_interruptions < N_SIGNALS)
        dp_bucket_take(&shared, SECOND);
    CHECK(pthread_join(interrupter, NULL) == 0);
    alarm(0);
}

int main(void)
{
    RUN(test_a_burst_at_once_and_then_the_rate);
    RUN(test_none_ever);
    RUN(test_a_clock_that_lags_gives_nothing_away);
    RUN(test_extreme_numbers);
    RUN(test_threads_get_the_burst_together);
#ifndef __SANITIZE_THREAD__ /* it runs signal handlers only where the program calls the system */
    RUN(test_nobody_waits_for_one_that_was_interrupted);
#else
    (void)test_nobody_waits_for_one_that_was_interrupted;
#endif
    return 0;
}
