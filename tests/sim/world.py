"""All of a simulated run: lives of a server one after the other, clients that come, crash and leave."""

from __future__ import annotations

import hashlib
from functools import partial
from random import Random
from typing import Any

import msgspec

from hypershell.core.scheduler import Scheduler
from hypershell.ids import IdSource
from tests.sim.checker import Checker
from tests.sim.clock import Clock, Link
from tests.sim.disk import Disk
from tests.sim.plan import Faults, Plan, Sort
from tests.sim.server import Server, last_policy
from tests.sim.worker import Worker

__all__ = ["Outcome", "SimulationFailed", "World", "simulate"]

_encode = msgspec.msgpack.Encoder().encode


class SimulationFailed(Exception):
    """A rule was broken; the message names the seed and the command that repeats the run."""


class Outcome(msgspec.Struct, frozen=True):
    """What a run came to; `digest` is the same for the same seed, always."""

    seed: int
    clients: int
    tasks: int
    lives: int
    steps: int
    seconds: float
    ends: list[str]
    recalls: int
    digest: str


class World:
    """One run of a plan."""

    def __init__(self, plan: Plan, make: type[Scheduler] = Scheduler) -> None:
        self.plan = plan
        self.clock = Clock()
        self.random = Random(f"world {plan.seed}")
        self.rooms = Random(f"rooms {plan.seed}")
        """For shortages; so that the rest of a seed is as it was before there were any."""
        self.epoch = 1_700_000_000.0
        self.ids = IdSource(lambda: int((self.epoch + self.clock.now) * 1e9), self.random.randbytes)
        self.disk = Disk()
        self.checker = Checker(plan, self.clock)
        self.faults: Faults | None = None
        self.ends: list[str] = []
        self._trace = hashlib.blake2b(digest_size=16)
        self._workers: dict[int, Worker] = {}
        self._numbers = 0
        self.outside: set[int] = set()
        """Numbers of the connections of clients that outlive their servers."""
        self._server: Server
        self._deadly = any(line.deadly for line in plan.lines)
        self._make = make
        self.deaths = 0
        """Clients that died, one by one."""

    def note(self, thing: Any) -> None:
        """Put an event or action into the trace."""
        if self.plan.trace:
            self._trace.update(f"{self.clock.now!r} {type(thing).__name__} ".encode() + _encode(thing))

    def digest(self) -> str:
        return self._trace.hexdigest()

    # -- lives -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Lives with faults, as many as the plan has and the work lasts; then one that meets none."""
        plan = self.plan
        for life in range(max(1, plan.lives)):
            self._live(life, plan.faults)
            if self._done() or self.checker.wrong:
                break
        if not self._done() and not self.checker.wrong:
            self._live(plan.lives, None)
        if not self.checker.wrong:
            self.checker.final(self.disk)

    def _done(self) -> bool:
        finish = self._server.finish
        return finish is not None and finish.reason in ("complete", "group failed")

    def _live(self, life: int, faults: Faults | None) -> None:
        plan, clock = self.plan, self.clock
        self.faults = faults
        last = plan.kinds if faults is None and len(plan.kinds) > 1 else ()
        policy = plan.policy if faults is not None else last_policy(plan.policy, len(last))
        self.checker.begin(policy)
        self._server = server = Server(self, self._make, policy, faults, Random(f"life {plan.seed} {life}"))
        length = self._estimate()
        stop = clock.now + 3 * length
        clock.after(0.5 * self.random.random() * (plan.pause + plan.latency), server.begin, life == 0)
        for _ in range(plan.clients):
            clock.after(self.random.random() * plan.latency, self._join, server)
        for kind in last:
            clock.after(self.random.random() * plan.latency, self._join, server, False, kind)
        for _ in range(plan.outsiders - sum(worker.outlives for worker in self._workers.values())):
            clock.after(self.random.random() * plan.latency, self._join, server, True)
        if faults is not None:
            self._plan_faults(server, faults, length, stop)
            if len(plan.kinds) > 1 and not policy.closed:  # somebody for every task, in the end
                for kind in plan.kinds:
                    clock.at(stop, self._join, server, False, kind)
        limit, steps = stop + self._patience(), clock.steps + self._most_steps()
        while not server.over:
            if not clock.step():
                self.checker.fault("the run stands still")
                break
            if clock.now > limit or clock.steps > steps:
                self.checker.fault(f"not over at {clock.now:.0f} s after {clock.steps} steps")
                break
            if self.checker.wrong:
                break
        server.over = True
        self.ends.append(server.finish.reason if server.finish else "killed")
        self._after(server)

    def _after(self, server: Server) -> None:
        """Let some time pass, in which what is left of the clients meets nobody."""
        until = self.clock.now + self.random.choice([0.0, 0.1, 20.0])
        self.clock.at(until, lambda: None)
        while self.clock.now < until and self.clock.step():
            pass
        if self.plan.policy.closed:
            for worker in self._workers.values():
                if not worker.outlives:
                    worker.crash()
        self._workers = {number: worker for number, worker in self._workers.items() if worker.alive}

    def _estimate(self) -> float:
        """About how long a life without faults takes, seconds."""
        plan = self.plan
        work = sum(line.seconds for line in plan.lines)
        slots = plan.clients * (plan.slots[0] + plan.slots[1]) / 2
        reading = plan.pause * len(plan.lines) / plan.batch
        return max(0.5, work / slots + reading + 4 * plan.latency + 4 * plan.commit)

    def _patience(self) -> float:
        """Seconds in which everything must be over once the faults have stopped, even on a single slot."""
        plan = self.plan
        tries = plan.policy.attempts + 2 + 10 * self._deadly
        each = plan.pause + 6 * (plan.latency + plan.commit) + 3.0
        return 200.0 + tries * sum(line.seconds + each for line in plan.lines)

    def _most_steps(self) -> int:
        """Enough for every plan; clients that leave when idle come back all the time while a long bundle runs."""
        churn = 0 if self.plan.faults.idle_out is None else 20_000 * self.plan.clients
        deaths = 5 * sum(line.deadly for line in self.plan.lines)
        each = 400 * self.plan.policy.attempts
        return churn + 20_000 + 400 * self.plan.clients + each * (len(self.plan.lines) + deaths)

    # -- faults ------------------------------------------------------------------------------------------

    def _plan_faults(self, server: Server, faults: Faults, length: float, stop: float) -> None:
        """Draw when what goes wrong; a rate is the expected number in `length` seconds."""
        random = self.random

        def often(rate: float, call: Any, *args: Any, draw: Random = random) -> None:
            when = self.clock.now
            while rate:
                when += draw.expovariate(rate / length)
                if when > stop:
                    return
                self.clock.at(when, call, server, *args)

        often(faults.crash, self._crash)
        often(faults.evict, self._evict)
        often(faults.join if not self.plan.policy.closed else 0.0, self._join)
        often(faults.kill, self._kill)
        often(faults.drain, self._drain)
        often(faults.interrupt, self._interrupt)
        often(faults.cancel, self._cancel)
        often(faults.change, self._change)
        often(faults.cut, self._cut)
        often(faults.retire, self._retire)
        often(faults.short, self._shorten, draw=self.rooms)
        if faults.walltime and random.random() < faults.walltime:
            end = self.clock.now + 2 * length * random.random()
            self.clock.after(random.choice([0.0, 0.0, 0.1 * length]), server.allocate, end)
            self.clock.at(end, self._kill, server)
        if self.plan.policy.forever:
            self.clock.at(self.clock.now + (1.0 + random.random()) * length, self._drain, server)

    def _join(self, server: Server, outlives: bool = False, kind: Sort | None = None) -> None:
        if server.over:
            return
        self._numbers += 1
        slots, kinds = self.random.randint(*self.plan.slots), self.plan.kinds
        chosen = kind or (self.random.choice(kinds) if len(kinds) > 1 else kinds[0])
        worker = Worker(self, self._numbers, slots, outlives, chosen)
        self._workers[worker.who] = worker
        self._connect(worker, self._numbers, server)
        worker.hello()

    def _connect(self, worker: Worker, number: int, server: Server) -> None:
        worker.number = number
        if worker.outlives:
            self.outside.add(number)
        latency = self.plan.latency
        worker.straight = partial(server.receive, number)
        worker.up = Link(self.clock, self.random, latency, worker.straight)
        server.connect(number, Link(self.clock, self.random, latency, partial(worker.receive, number)))

    def hang_up(self) -> None:
        """The server ends: clients that it did not dismiss see their connections closed."""
        for worker in list(self._workers.values()):
            if worker.outlives:
                self.clock.after(2 * self.plan.latency + self.random.random(), worker.server_lost, worker.number)

    def look_for_server(self, worker: Worker) -> None:
        """A client tries again and again to reach whoever is the server then."""
        worker.up.broken = self.random.random() < 0.5 or worker.up.broken
        self.clock.after(2 * self.random.random(), self._try_again, worker)

    def _try_again(self, worker: Worker) -> None:
        if not worker.alive:
            return
        if self._server.over or self.random.random() < 0.2:
            self.clock.after(2 * self.random.random(), self._try_again, worker)
            return
        self._numbers += 1
        self._connect(worker, self._numbers, self._server)
        worker.reached()

    def _pick(self) -> Worker | None:
        alive = [worker for worker in self._workers.values() if worker.alive]
        return self.random.choice(alive) if alive else None

    def gone(self, worker: Worker) -> None:
        """A client ended; where clients come and go, another one comes."""
        self._workers.pop(worker.who, None)
        if worker.outlives or not self.plan.policy.closed:
            kind = (worker.info.system, worker.info.labels) if self._deadly else None  # or its sort dies out
            self.clock.after(5 * self.random.random(), self._join, self._server, worker.outlives, kind)

    def _crash(self, server: Server) -> None:
        worker = self._pick()
        if worker is not None and not server.over:
            self.die(worker)

    def die(self, worker: Worker) -> None:
        """A client is gone, at once; its server sees that sooner or later."""
        self.deaths += 1
        worker.crash()
        if self.random.random() < 0.5:
            worker.up.cut()
        worker.up.send(None, self.random.choice([0.0, 0.5, 30.0]) * self.random.random())
        self.gone(worker)

    def _evict(self, server: Server) -> None:
        """The server gives a client up that lives on; what it still says is of no meaning any more."""
        worker = self._pick()
        if worker is not None and worker.number in server.heard and not server.over:
            server.receive(worker.number, None)
            self.clock.after(10 * self.random.random(), worker.server_lost, worker.number)

    def _cut(self, server: Server) -> None:
        """A connection breaks; each side sees that at its own time, and the client may be back before that."""
        found = [w for w in self._workers.values() if w.alive and w.outlives and w.number in server.heard]
        if server.over or not found:
            return
        worker = self.random.choice(found)
        if self.random.random() < 0.5:
            worker.up.broken = True
        server.deafen(worker.number)
        number = worker.number
        self.clock.after(self.random.choice([0.0, 1.0, 20.0]) * self.random.random(), server.receive, number, None)
        self.clock.after(self.random.choice([0.0, 1.0]) * self.random.random(), worker.server_lost, number)

    def _retire(self, server: Server) -> None:
        worker = self._pick()
        if worker is not None and not server.over:
            worker.retire()

    def _shorten(self, server: Server) -> None:
        """The machine of a client, or of all clients, has less room than it has slots, for a while."""
        random, alive = self.rooms, [worker for worker in self._workers.values() if worker.alive]
        if not alive or server.over:
            return
        length = random.choice([1.0, 10.0, 100.0]) * random.random()
        for worker in alive if random.random() < 0.2 else [random.choice(alive)]:
            worker.capacity = random.choice([0, 0, 1, worker.info.slots // 2])
            self.clock.after(length, self._widen, worker)

    def _widen(self, worker: Worker) -> None:
        worker.capacity = None

    def running_at(self, number: int, key: str) -> bool:
        """Whether the client of this connection runs that task."""
        return any(worker.number == number and worker.holds_running(key) for worker in self._workers.values())

    def _kill(self, server: Server) -> None:
        if server.over:
            return
        server.kill()
        for worker in list(self._workers.values()):
            if self.plan.policy.closed and not worker.outlives:
                worker.crash()
            else:
                self.clock.after(5 * self.random.random(), worker.server_lost, worker.number)

    def _drain(self, server: Server) -> None:
        if not server.begun and not server.over:
            self.clock.after(1.0, self._drain, server)
            return
        server.drain(self.random.choice([None, 0.5, 10.0]))
        if self.random.random() < 0.3:
            self.clock.after(2 * self.random.random(), self._interrupt, server)

    def _interrupt(self, server: Server) -> None:
        server.interrupt()

    def _cancel(self, server: Server) -> None:
        """A user cancels up to three tasks that have not ended; the server hears of it a little later."""
        rows = self.disk.rows
        alive = [key for key in sorted(rows) if rows[key].state in ("pending", "dispatched")]
        if server.over or not server.begun or not alive:
            return
        chosen = self.random.sample(alive, min(len(alive), self.random.randint(1, 3)))
        settled = [key for key in chosen if self.disk.cancel(key)]
        self.checker.cancelled(chosen, settled)
        self.clock.after(0.2 * self.random.random(), server.cancel, chosen, settled)

    def _change(self, server: Server) -> None:
        """A user changes up to three tasks that wait; the server hears of it a little later."""
        rows = self.disk.rows
        waiting = [key for key in sorted(rows) if rows[key].state == "pending"]
        if server.over or not server.begun or not waiting:
            return
        chosen = self.random.sample(waiting, min(len(waiting), self.random.randint(1, 3)))
        for key in chosen:
            self.checker.changed(key, self.disk.change(key))
        self.clock.after(0.2 * self.random.random(), server.change, chosen)


def simulate(plan: Plan, make: type[Scheduler] = Scheduler) -> Outcome:
    """Run the plan with schedulers of class `make`.

    Raises ``SimulationFailed`` with the rules that were broken and how to see it again.
    """
    world = World(plan, make)
    again = f"python -m tests.sim --seed {plan.seed} --clients {plan.clients}"
    try:
        world.run()
    except Exception as error:
        raise SimulationFailed(f"{type(error).__name__}: {error}\nagain: {again}") from error
    if world.checker.wrong:
        told = "\n".join(world.checker.wrong[:10])
        raise SimulationFailed(f"seed {plan.seed}, lives {world.ends}:\n{told}\nagain: {again}")
    clock = world.clock
    tasks = len(world.disk.rows)
    ends = world.ends
    return Outcome(
        plan.seed,
        plan.clients,
        tasks,
        len(ends),
        clock.steps,
        clock.now,
        ends,
        world.checker.recalls,
        world.digest(),
    )
