"""Keeping a lease alive: a state machine without I/O, clock or sleep.

The node drives it. It asks `next_step(now)` what to do and when, does that with the store, and tells the
machine how it went; whatever the watch says about the node's own lease goes in as well. Times are moments of
`clock`, passed in: setting the time of day makes no lease run out.

| state | the node has | and does |
| --- | --- | --- |
| ACQUIRING | no lease | asks the store for one, again and again |
| HELD | a lease with time left | waits until `margin` before the expiry |
| RENEWING | a lease that runs out soon | renews, again and again; traffic goes on |
| EXPIRED | a lease that ran out unrenewed | asks for the same subnets again; traffic goes on |
| LOST | subnets that are not its own any more | must say so and start over: pods have addresses of somebody else |

The lease of a node that runs is never given back: `udplane leave` stops the node first (see `commands.leave`).

A lease that disappears from the store before its time was revoked by somebody (LOST); one that disappears after
its time has expired, which is what a node finds that was cut off from the store for long. Which event leads
where stands in `TRANSITIONS` and nowhere else. Retries back off from one second, doubling up to a minute
(flannel's interval), with a random part so that many nodes do not come back to a recovered store at once.

A lease is a node's by its public address. If two nodes have one address they share one lease, and each sees the other
renew it. That is remembered in `rival`, and answered once with a renewal of one's own, so that the other sees it too.
"""

import enum
import math
import random
from dataclasses import dataclass

from dataplane.leases.lease import Lease

RENEW_MARGIN_SECONDS = 60 * 60.0
"""How long before its expiry a lease is renewed: flannel's `--subnet-lease-renew-margin` of 60 minutes."""

RIVAL_SECONDS = 60 * 60.0
"""How long a renewal by somebody else is held against him, and how long it is until the next one is answered."""

_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 60.0
_JITTER = 0.25


class State(enum.Enum):
    """Where the lease is in its life; the module's table says what each means."""

    ACQUIRING = "acquiring"
    HELD = "held"
    RENEWING = "renewing"
    EXPIRED = "expired"
    LOST = "lost"


class Incident(enum.Enum):
    """What can happen to a lease."""

    GRANTED = "granted"  # acquired, renewed, or seen in the store with another expiry
    FAILED = "failed"  # the store could not do it now
    DUE = "due"  # the time to renew has come
    TIMED_OUT = "timed out"  # the expiry has passed
    REVOKED = "revoked"  # the lease vanished before its time, or its subnets went to somebody else
    RESTARTED = "restarted"  # the node gave up the lost subnets and wants others


TRANSITIONS: dict[State, dict[Incident, State]] = {
    State.ACQUIRING: {
        Incident.GRANTED: State.HELD,
        Incident.FAILED: State.ACQUIRING,
    },
    State.HELD: {
        Incident.GRANTED: State.HELD,
        Incident.DUE: State.RENEWING,
        Incident.TIMED_OUT: State.EXPIRED,
        Incident.REVOKED: State.LOST,
    },
    State.RENEWING: {
        Incident.GRANTED: State.HELD,
        Incident.FAILED: State.RENEWING,
        Incident.TIMED_OUT: State.EXPIRED,
        Incident.REVOKED: State.LOST,
    },
    State.EXPIRED: {
        Incident.GRANTED: State.HELD,
        Incident.FAILED: State.EXPIRED,
        Incident.REVOKED: State.LOST,
    },
    State.LOST: {
        Incident.RESTARTED: State.ACQUIRING,
    },
}


class Action(enum.Enum):
    """What the node is to do next."""

    ACQUIRE = "acquire"
    RENEW = "renew"
    WAIT = "wait"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Step:
    """Do `action` at time `at`, or as soon as something else happens ask again. `at` is None for "never"."""

    action: Action
    at: float | None


_ACTIONS = {
    State.ACQUIRING: Action.ACQUIRE,
    State.HELD: Action.WAIT,
    State.RENEWING: Action.RENEW,
    State.EXPIRED: Action.ACQUIRE,
    State.LOST: Action.STOP,
}


class LeaseKeeper:
    """The life of one node's lease. `state`, `lease` (the last one held, or None) and `reason` are for reading.

    `reason` tells in words why the last attempt failed or the lease was lost; it is empty when all is well. `rival`
    tells that somebody else renews the lease, and is empty when nobody does.
    """

    def __init__(self, margin: float = RENEW_MARGIN_SECONDS, rng: random.Random | None = None) -> None:
        self.state = State.ACQUIRING
        self.lease: Lease | None = None
        self.reason = ""
        self.rival = ""
        self._rival_since = -math.inf
        self._margin = margin
        self._rng = rng or random.Random()
        self._failures = 0
        self._retry_at: float | None = None
        self._renew_at: float | None = None

    def next_step(self, now: float) -> Step:
        """What to do and when, given that it is `now`; moves on if the time to renew or the expiry has passed."""
        expires = self.lease.expires if self.lease is not None else None
        if expires is not None and now >= expires and Incident.TIMED_OUT in TRANSITIONS[self.state]:
            self._move(Incident.TIMED_OUT)
        if self.state is State.HELD and self._renew_at is not None and now >= self._renew_at:
            self._move(Incident.DUE)
        action = _ACTIONS[self.state]
        if action is Action.STOP:
            return Step(action, None)
        if action is Action.WAIT:
            return Step(action, self._renew_at)
        return Step(action, now if self._retry_at is None else max(now, self._retry_at))

    def granted(self, lease: Lease, now: float) -> None:
        """The store acquired or renewed `lease` at `now`.

        Other subnets than before mean that the old ones are lost.
        """
        if self.state is State.EXPIRED and self.lease is not None and lease.subnets != self.lease.subnets:
            self.revoked(f"the lease of {self.lease.subnets} expired and the subnet is another node's now")
            return
        self._move(Incident.GRANTED)
        self.lease = lease
        self.reason = ""
        if now - self._rival_since >= RIVAL_SECONDS:
            self.rival = ""
        self._failures, self._retry_at, self._renew_at = 0, None, None
        if lease.expires is not None:
            # A lease that lives for less than two margins is renewed after half of its life.
            self._renew_at = lease.expires - min(self._margin, (lease.expires - now) / 2)

    def failed(self, reason: str, now: float) -> None:
        """The last ACQUIRE or RENEW did not work, for a reason that may pass."""
        self._move(Incident.FAILED)
        self.reason = reason
        delay = min(_FIRST_RETRY_SECONDS * 2.0 ** min(self._failures, 16), _LAST_RETRY_SECONDS)
        self._failures += 1
        self._retry_at = now + delay * self._rng.uniform(1 - _JITTER, 1 + _JITTER)

    def revoked(self, reason: str) -> None:
        """The store refused to renew the lease, because it is gone or somebody else's."""
        self._move(Incident.REVOKED)
        self.reason = reason

    def observed(self, seen: Lease | None, now: float) -> None:
        """The watch shows `seen` under the key of the node's own lease, or None: nothing is there any more."""
        if self.lease is None or Incident.REVOKED not in TRANSITIONS[self.state]:
            return
        if seen is not None and seen.attrs.same_node(self.lease.attrs):
            if seen.expires != self.lease.expires:
                self.granted(seen, now)
                if seen.rewritten and seen.expires is not None:
                    self._contested(now)
        elif seen is not None:
            self.revoked(f"the subnet {self.lease.subnets} was taken by {seen}")
        elif self.lease.expires is None or now < self.lease.expires:
            self.revoked(f"the lease of {self.lease.subnets} was revoked: somebody deleted it from the store")

    def _contested(self, now: float) -> None:
        assert self.lease is not None
        addresses = " ".join(map(str, self.lease.attrs.addresses))
        if now - self._rival_since >= RIVAL_SECONDS:
            self._rival_since = self._renew_at = now
        self.rival = (
            f"somebody else renews this node's lease of {self.lease.subnets}: another node has the public address "
            f"{addresses} too, or flanneld runs on this one, and pods of both have one subnet; stop the other, or give "
            "it an address of its own (--public-ip)"
        )

    def restarted(self) -> None:
        """The node has taken down what used the lost subnets and wants a lease again."""
        self._move(Incident.RESTARTED)
        self.lease, self._failures, self._retry_at = None, 0, None

    def _move(self, event: Incident) -> None:
        successor = TRANSITIONS[self.state].get(event)
        if successor is None:
            raise AssertionError(f"a lease that is {self.state.value} cannot be {event.value}")
        self.state = successor
