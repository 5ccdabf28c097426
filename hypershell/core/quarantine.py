"""Clients and hosts at which everything fails at once: set aside, before a broken one drains the whole list.

A client whose last ``Policy.quarantine`` results were all failures within a second, while others do better, gets no
more tasks. Those failures stand; what it fails after them counts as handed back, for others to try. It gets work
again when tasks fail elsewhere too, or when only such clients are left. Of one that had a success before, five
times as many failures are asked. Clients are compared with those of the same system and labels, as others could not
take over.

A host is set aside as a whole when so many failures in a row came from several of its clients: else each of its
many ranks would have to be found out by itself.
"""

from __future__ import annotations

from hypershell.core import actions as act
from hypershell.core.clients import Client, Kind
from hypershell.core.model import CANCELLED_BY_USER, TIMED_OUT, Result, Special
from hypershell.core.nodes import Node
from hypershell.core.returning import Returning

__all__ = ["Quarantine", "fails_at_once"]

#: A failure after less than so many seconds says something about the client.
AT_ONCE = 1.0

#: So many times more failures are asked of a client that has had a success.
PROVEN = 5


def fails_at_once(result: Result) -> bool:
    """Whether this may be the client's fault: a failure that neither user, clock nor template brought about."""
    if result.exit_status == 0 and result.error is None:
        return False
    error = result.error or ""
    if error == CANCELLED_BY_USER or error.startswith(TIMED_OUT) or result.exit_status == Special.TEMPLATE_FAILED:
        return False
    return 0.0 <= result.end - result.start < AT_ONCE


class Quarantine(Returning):
    """The part of the scheduler that judges clients by their results."""

    def _judge(self, client: Client, result: Result) -> None:
        """Take in one result of a client that is not set aside."""
        most, kind, node = self.policy.quarantine, client.kind, client.node
        if not most:
            return
        if not fails_at_once(result):
            self._did_well(client, result.exit_status == 0)
            return
        client.streak += 1
        node.streak += 1
        node.failed.add(client.number)
        if node.streak == self._few():
            kind.failing_nodes += 1
        if client.streak == self._few():
            kind.failing += 1
            if kind.doubts and self._is_common(kind):
                self._absolve(kind, kind.doubts, "tasks of others fail so too")
        if self._is_common(kind):
            return
        if client.streak >= most * (PROVEN if client.proven else 1):
            self._set_aside(client)
        elif node.clients > 1 and node.streak >= most * (PROVEN if node.proven else 1):
            self._judge_node(kind, node)

    def _did_well(self, client: Client, succeeded: bool) -> None:
        """Something took its time, or succeeded."""
        kind, node = client.kind, client.node
        if client.streak >= self._few():
            kind.failing -= 1
        client.streak = 0
        if node.streak:
            if node.streak >= self._few():
                kind.failing_nodes -= 1
            node.well()
        if succeeded:
            client.proven = node.proven = True
            if kind.doubts:
                self._others_do_well(kind)

    def _judge_node(self, kind: Kind, node: Node) -> None:
        """Its last failures are many: were they of several of its clients, and do other hosts do better?"""
        several = max(2, min(node.clients, self._few()))
        common = 2 * kind.failing_nodes > len(kind.nodes) - kind.guilty_nodes
        if len(node.failed) < several or common:
            return
        clients = [client for client in self._clients.all() if client.node is node]
        for client in clients:
            if not client.aside:
                if client.streak < self._few():
                    client.streak = self._few()
                    kind.failing += 1
                self._take_from(client)
        node.aside = True
        kind.failing_nodes -= 1
        kind.guilty_nodes += 1
        last = f"the last {node.streak} of its {len(clients)} clients failed within a second each"
        text = f"Node {node.host} gets no more tasks: {last}; others take over"
        self._out.append(act.Note("warning", "server", text))

    def _few(self) -> int:
        """Failures in a row that make a client one of those for which the tasks may be to blame."""
        return max(1, self.policy.quarantine // 3)

    def _is_common(self, kind: Kind) -> bool:
        """Whether most clients fail so, but for those that are found guilty: then it is the tasks."""
        return 2 * kind.failing > kind.clients - kind.guilty

    def _take_from(self, client: Client) -> None:
        kind = client.kind
        kind.aside[client.info.id] = client.number
        kind.doubts[client.info.id] = client.number
        kind.weight = 0
        client.aside = True

    def _set_aside(self, client: Client) -> None:
        self._take_from(client)
        name = f"Client on {client.info.host} ({client.info.id})"
        text = f"{name} gets no more tasks: its last {client.streak} failed within a second each; others take over"
        self._out.append(act.Note("warning", "server", text))

    def _others_do_well(self, kind: Kind) -> None:
        """One more success since the last client was set aside; some of them and there is no doubt any more."""
        kind.weight += 1
        if kind.weight >= max(1, self.policy.quarantine // 2):
            kind.failing -= len(kind.doubts)
            kind.guilty += len(kind.doubts)
            kind.doubts.clear()

    def _absolve(self, kind: Kind, clients: dict[str, int], reason: str) -> None:
        """These get work again."""
        nodes: dict[str, Node] = {}
        for name, number in list(clients.items()):
            client = self._clients.get(number)
            if client is not None and client.aside:
                if name not in kind.doubts:
                    kind.guilty -= 1
                    kind.failing += 1
                client.aside = False
                self._clients.ask(client)
                if client.node.aside:
                    nodes[client.node.host] = client.node
                else:
                    text = f"Client on {client.info.host} ({name}) gets tasks again: {reason}"
                    self._out.append(act.Note("info", "server", text))
            kind.doubts.pop(name, None)
            kind.aside.pop(name, None)
        for node in nodes.values():
            node.aside = False
            node.well()
            kind.guilty_nodes -= 1
            self._out.append(act.Note("info", "server", f"Node {node.host} gets tasks again: {reason}"))
            late = [one for one in self._clients.all() if one.node is node and one.aside]
            self._absolve(kind, {one.info.id: one.number for one in late}, reason)

    def _absolve_by(self, client: Client) -> None:
        """A task succeeded at one that is set aside: it gets work again, with its host where that was blamed."""
        found = [client]
        if client.node.aside:
            found = [one for one in self._clients.all() if one.node is client.node and one.aside]
            client.node.proven = True
        clients = {one.info.id: one.number for one in found}
        self._absolve(client.kind, clients, "a task succeeded there")

    def _know_again(self, client: Client) -> None:
        """One that was set aside does not become another by connecting anew, nor does a newcomer on such a host."""
        kind = client.kind
        known = client.info.id in kind.aside or client.node.aside
        if known and kind.clients > len(kind.doubts) + kind.guilty + 1:
            kind.aside[client.info.id] = client.number
            client.streak = self.policy.quarantine
            client.aside = True
            kind.guilty += 1

    def _judged_is_gone(self, client: Client) -> None:
        """If only such clients are left as were set aside, the run goes on with them."""
        kind, node = client.kind, client.node
        if not node.clients:
            if node.aside:
                kind.guilty_nodes -= 1
            elif node.streak >= self._few():
                kind.failing_nodes -= 1
        if client.aside and client.info.id not in kind.doubts:
            kind.guilty -= 1
        elif client.streak >= self._few():
            kind.failing -= 1
        kind.doubts.pop(client.info.id, None)
        if not client.info.outlives:
            kind.aside.pop(client.info.id, None)
        if kind.clients and len(kind.doubts) + kind.guilty >= kind.clients:
            self._absolve(kind, kind.aside, "nobody else is here")

    def set_aside(self) -> tuple[list[Node], list[Client]]:
        """Hosts that get nothing, and clients of other hosts that get nothing."""
        nodes = [node for kind in self._clients.kinds() for node in kind.nodes.values() if node.aside]
        return nodes, [client for client in self._clients.all() if client.aside and not client.node.aside]
