"""Rules on system calls, compiled to one program of seccomp(2) (classic BPF). Pure: a table in, instructions out.

The program first refuses other architectures (SIGSYS) and x32's numbers (ENOSYS), then finds the number's range in a
balanced tree, then looks at arguments. A number whose answer does not depend on its arguments is answered before any of
them is loaded: that is what lets Linux keep it in its bitmap of calls that are always allowed. The tree is weighted for
the others, which are asked at every call. Equal parts of the program are there once.
"""

from __future__ import annotations

import errno

from rvisor.errors import ProfileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.profile.model import Action, Case, Condition, Table

    Insn = tuple[int, int, int, int]
    """code, jt, jf, k"""
    Word = tuple[int, int]
    """Offset in struct seccomp_data, mask."""

LONGEST = 4096
ARCH = 0xC000003E
X32 = 0x40000000
FULL = 0xFFFFFFFF

LD, AND, JA, JEQ, JGT, JGE, RET = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
_RETURNS = {
    "kill": 0x80000000,
    "kill-thread": 0,
    "trap": 0x00030000,
    "errno": 0x00050000,
    "notify": 0x7FC00000,
    "plugin": 0x7FC00000,
    "trace": 0x7FF00000,
    "log": 0x7FFC0000,
    "allow": 0x7FFF0000,
}
ENOSYS = _RETURNS["errno"] | errno.ENOSYS
_NR, _ARCH = (0, FULL), (4, FULL)
_FAR = 255
# From so many equalities on one argument on, they are searched rather than tried.
_SEARCHED = 4
_WEIGHTS = {"allow": 1, "constant": 8, "arguments": 64}


def returns(action: Action) -> int:
    """What the filter returns for it."""
    return int(_RETURNS[action.kind] | action.number)


def compile_table(table: Table) -> list[Insn]:
    """The program. Raises ProfileError if it would be longer than seccomp(2) takes."""
    made = _Graph()
    default = returns(table.default)
    blocks = {number: made.cases(cases, default) for number, cases in table.cases.items()}
    fallback = made.answer(default)
    from rvisor.profile.vocabulary import HIGHEST

    # A call of a later Linux is not there: programs then do without it, which they do not if it may not be made.
    beyond = made.answer(default if table.default.kind in ("allow", "log") else ENOSYS)
    ranges: list[tuple[int, int]] = []
    for number in range(max(HIGHEST, *blocks, 0) + 1):
        node = blocks.get(number, fallback)
        if not ranges or ranges[-1][1] != node:
            ranges.append((number, node))
    if ranges[-1][1] != beyond:
        ranges.append((number + 1, beyond))
    numbers = made.search(_NR, ranges, [made.weight(node) for _, node in ranges])
    native = made.test(_NR, JGE, X32, made.answer(ENOSYS), numbers)
    program = made.emit(made.test(_ARCH, JEQ, ARCH, native, made.answer(_RETURNS["kill"])))
    if len(program) > LONGEST:
        raise ProfileError(
            f"the rules on system calls need {len(program)} instructions; Linux takes {LONGEST}",
            hint=f"most are for {_largest(table)}: say it with fewer values, ranges or masks",
        )
    return program


def _largest(table: Table) -> str:
    from rvisor.profile.vocabulary import NAMES

    def size(number: int) -> int:
        return sum(len(case.when) for case in table.cases[number])

    worst = sorted(table.cases, key=size, reverse=True)[:3]
    return ", ".join(f"{NAMES.get(number, number)} ({size(number)} conditions)" for number in worst)


class _Graph:
    """Tests and answers, each once. A node's children are made before it, so that a node's number is above theirs."""

    def __init__(self) -> None:
        # (0, value) is an answer; (code, word, mask, k, true, false) a test.
        self._nodes: list[tuple[int, ...]] = []
        self._known: dict[tuple[int, ...], int] = {}

    def _add(self, node: tuple[int, ...]) -> int:
        found = self._known.get(node)
        if found is None:
            found = self._known[node] = len(self._nodes)
            self._nodes.append(node)
        return found

    def answer(self, value: int) -> int:
        return self._add((0, value))

    def test(self, word: Word, code: int, k: int, true: int, false: int) -> int:
        return true if true == false else self._add((code, *word, k, true, false))

    def weight(self, node: int) -> int:
        """How much it matters that a call gets there soon: Linux never runs the filter for what it always allows."""
        if self._nodes[node][0] != 0:
            return _WEIGHTS["arguments"]
        return _WEIGHTS["allow" if self._nodes[node][1] == _RETURNS["allow"] else "constant"]

    def search(self, word: Word, ranges: list[tuple[int, int]], weights: list[int]) -> int:
        """The node of the range that the word is in; each is (first value, node), and the first begins with 0."""
        if len(ranges) == 1:
            return ranges[0][1]
        total, half, cut = sum(weights), 0, 0
        while cut < len(ranges) - 2 and 2 * (half + weights[cut]) < total:
            half += weights[cut]
            cut += 1
        cut = max(1, cut)
        upper = self.search(word, ranges[cut:], weights[cut:])
        lower = self.search(word, ranges[:cut], weights[:cut])
        return self.test(word, JGE, ranges[cut][0], upper, lower)

    def cases(self, cases: tuple[Case, ...], default: int) -> int:
        """What is asked of one number: each case in turn, then the default."""
        node = self.answer(default)
        end = len(cases)
        while end:
            start = self._equalities(cases, end)
            if end - start >= _SEARCHED:
                node = self._lookup(cases[start:end], node)
                end = start
                continue
            end -= 1
            true = self.answer(returns(cases[end].action))
            for condition in reversed(cases[end].when):
                true = self._condition(condition, true, node)
            node = true
        return node

    def _equalities(self, cases: tuple[Case, ...], end: int) -> int:
        """Where the run of single equalities on one argument begins that ends at `end`."""
        start = end
        while start and len(cases[start - 1].when) == 1:
            one, last = cases[start - 1].when[0], cases[end - 1].when[0]
            if one.op != "==" or last.op != "==" or (one.argument, one.mask) != (last.argument, last.mask):
                break
            start -= 1
        return start

    def _lookup(self, cases: tuple[Case, ...], otherwise: int) -> int:
        """One argument that is looked for among many values: by its upper half, then by its lower."""
        first = cases[0].when[0]
        values: dict[int, int] = {}
        for case in cases:
            values.setdefault(case.when[0].value, self.answer(returns(case.action)))
        halves: dict[int, dict[int, int]] = {}
        for value, node in values.items():
            halves.setdefault(value >> 32, {})[value & FULL] = node
        low, high = 16 + 8 * first.argument, 20 + 8 * first.argument
        found = {
            upper: self._among((low, first.mask & FULL), lower, otherwise) for upper, lower in sorted(halves.items())
        }
        return self._among((high, first.mask >> 32), found, otherwise)

    def _among(self, word: Word, values: dict[int, int], otherwise: int) -> int:
        if word[1] == 0:
            return values.get(0, otherwise)
        ranges: list[tuple[int, int]] = [(0, otherwise)]
        for value in sorted(values):
            if ranges[-1][0] == value:
                ranges.pop()
            if not ranges or ranges[-1][1] != values[value]:
                ranges.append((value, values[value]))
            if value < FULL:
                ranges.append((value + 1, otherwise))
        if len(values) < _SEARCHED:
            node = otherwise
            for value in sorted(values, reverse=True):
                node = self.test(word, JEQ, value, values[value], node)
            return node
        return self.search(word, ranges, [1] * len(ranges))

    def _condition(self, condition: Condition, true: int, false: int) -> int:
        """64 bits as two words, of which a word without bits in the mask need not be looked at."""
        op = condition.op
        if op in ("!=", "<", "<="):
            op, true, false = {"!=": "==", "<": ">=", "<=": ">"}[op], false, true
        low, high = 16 + 8 * condition.argument, 20 + 8 * condition.argument
        value, mask = condition.value, condition.mask
        lower: Word = (low, mask & FULL)
        upper: Word = (high, mask >> 32)
        if op == "==":
            if value & ~mask:
                return false
            if lower[1]:
                true = self.test(lower, JEQ, value & FULL, true, false)
            return self.test(upper, JEQ, value >> 32, true, false) if upper[1] else true
        if lower[1]:
            rest = self.test(lower, JGE if op == ">=" else JGT, value & FULL, true, false)
        else:
            rest = true if op == ">=" and not value & FULL else false
        if not upper[1]:
            return false if value >> 32 else rest
        return self.test(upper, JGT, value >> 32, true, self.test(upper, JEQ, value >> 32, rest, false))

    def emit(self, root: int) -> list[Insn]:
        """Instructions: a node before its children, as jumps only go forward; written from the end."""
        order = self._order(root)
        loads = self._loads(order)
        program: list[Insn] = []  # From the last to the first.
        places: dict[int, int] = {}

        def reach(node: int, extra: int) -> int:
            """How far it is from an instruction that has `extra` more behind it that are not written yet."""
            return len(program) + extra - places[node]

        for node in reversed(order):
            code, *rest = self._nodes[node]
            if code == 0:
                program.append((RET, 0, 0, rest[0]))
                places[node] = len(program)
                continue
            offset, mask, k, true, false = rest
            # What is too far for a byte is reached by a jump, an answer by one more of its kind.
            for target in dict.fromkeys((false, true)):
                if reach(target, 1) > _FAR:
                    target_code, *target_rest = self._nodes[target]
                    if target_code == 0:
                        program.append((RET, 0, 0, target_rest[0]))
                    else:
                        program.append((JA, 0, 0, reach(target, 0)))
                    places[target] = len(program)
            program.append((code, reach(true, 0), reach(false, 0), k))
            if loads[node]:
                if mask != FULL:
                    program.append((AND, 0, 0, mask))
                program.append((LD, 0, 0, offset))
            places[node] = len(program)
        program.reverse()
        return program

    def _order(self, root: int) -> list[int]:
        """Every node that is reached, before those it leads to: a test's false way directly behind it if it can be."""
        order: list[int] = []
        seen: set[int] = set()
        stack = [(root, False)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                if self._nodes[node][0]:
                    stack += [(child, False) for child in (self._nodes[node][5], self._nodes[node][4])]
        order.reverse()
        return order

    def _loads(self, order: list[int]) -> dict[int, bool]:
        """Which tests must load their word: those that some way reaches with another in the accumulator."""
        before: dict[int, set[Word]] = {}
        loads = {}
        for node in order:
            if not self._nodes[node][0]:
                continue
            _, offset, mask, _, true, false = self._nodes[node]
            word = (offset, mask)
            loads[node] = before.get(node) != {word}
            for child in (true, false):
                before.setdefault(child, set()).add(word)
        return loads
