/*
 * prove.h - what proofs by bounded model checking (CBMC) have in common.
 *
 * A proof calls a function of the loop with memory and numbers of which nothing is known but what is assumed, and CBMC
 * looks for any that breaks an assertion, reads or writes out of bounds, overflows or wraps. Functions without a body
 * return anything.
 */
#ifndef PROVE_H
#define PROVE_H

#include <stddef.h>
#include <stdint.h>

size_t nondet_size(void);
uint16_t nondet_short(void);
uint32_t nondet_number(void);

/* A byte string of any content at the end of its memory. */
#define ANY_BYTES(name, len)                                                                                           \
    uint8_t *name = malloc(len);                                                                                       \
    __CPROVER_assume(name != NULL)

#endif
