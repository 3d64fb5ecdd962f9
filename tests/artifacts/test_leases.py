"""Leases: who is gone, when a lease is stale, and the thread that renews them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sparsity_lab.artifacts.leases import Lease, Owner, Timeouts, Watch, heartbeat

pytestmark = pytest.mark.slow

ELSEWHERE = Owner("another machine", 1, "1", "elsewhere")


def dead() -> Owner:
    """A process of this machine that is no more."""
    code = "from sparsity_lab.artifacts.leases import Owner; print(vars(Owner.here()))"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return Owner(**eval(said.stdout))  # noqa: S307


def test_an_owner_is_gone_when_its_process_is() -> None:
    here = Owner.here()
    assert not here.gone
    assert dead().gone
    assert replace(here, born="0").gone, "another process had this number before"
    assert not ELSEWHERE.gone, "of other machines nothing is known"
    assert here != Owner.here()


def test_a_killed_process_that_nobody_has_waited_for_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    born = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    owner = replace(Owner.here(), process=child.pid, born=born)
    assert not owner.gone
    child.kill()
    while not owner.gone:
        time.sleep(0.01)
    child.wait()


def test_a_lease_survives_json() -> None:
    lease = Lease(Owner.here(), 7)
    assert Lease.of(lease.json()) == lease
    assert Lease.of(None) is None


def test_a_lease_is_stale_when_it_has_not_changed_for_the_grace() -> None:
    now = [100.0]
    watch = Watch(60, clock=lambda: now[0])
    lease = Lease(ELSEWHERE)
    assert not watch.is_stale("trial", lease), "seen for the first time, however old"
    now[0] += 59
    assert not watch.is_stale("trial", lease)
    lease = lease.renewed()
    assert not watch.is_stale("trial", lease)
    now[0] += 59
    assert not watch.is_stale("trial", lease)
    now[0] += 1
    assert watch.is_stale("trial", lease)
    assert not watch.is_stale("another", lease)


def test_a_claim_without_a_lease_is_stale_after_the_grace() -> None:
    now = [0.0]
    watch = Watch(60, clock=lambda: now[0])
    assert not watch.is_stale("trial", None)
    now[0] += 60
    assert watch.is_stale("trial", None)


def test_a_lease_that_cannot_be_renewed_in_time_is_refused() -> None:
    with pytest.raises(ValueError, match="outlive two beats"):
        Timeouts(beat=40, grace=60)


def test_the_heart_beats_until_the_context_ends() -> None:
    beats, enough = [0], threading.Event()

    def beat() -> None:
        beats[0] += 1
        if beats[0] == 3:
            enough.set()

    with heartbeat(beat, 0.01):
        assert enough.wait(30)
    after = beats[0]
    time.sleep(0.05)
    assert beats[0] == after
