"""The Python of one page of docs/: runs its blocks one after the other, and compares what they show.

Started by `page_run.py`, as a process of its own. It reads {"code", "place"} as a line of JSON and answers with
{"error"}, which is null where all went as the page says:

* `# -> text` behind a line, or below it, is what that line prints, or the value of its expression. A block
  with such comments prints nothing else. `...` stands for anything.
* `# raises Name` behind a line: it raises that exception.
* A block that starts with `>>> ` is a doctest.
"""

from __future__ import annotations

import ast
import doctest
import io
import json
import os
import sys
import tokenize
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def comments(code: str, start: str) -> dict[int, str]:
    """What stands behind `start` in comments, by line."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT and token.string.startswith(start):
            found[token.start[0]] = token.string.removeprefix(start).strip()
    return found


class Shown(ast.NodeTransformer):
    """Turns statements with such comments into ones that show their value, or that must raise."""

    def __init__(self, code: str) -> None:
        self.arrows = comments(code, "# -> ")
        self.raises = comments(code, "# raises ")
        self.met: set[int] = set()

    def visit(self, node: ast.AST) -> Any:
        node = self.generic_visit(node)
        line = getattr(node, "end_lineno", None)
        if isinstance(node, ast.Expr) and line in self.arrows and not is_print(node.value):
            node.value = ast.Call(ast.Name("__show__", ast.Load()), [node.value], [])
        if isinstance(node, ast.stmt) and line in self.raises and not hasattr(node, "body"):
            self.met.add(line)
            name = ast.Constant(self.raises[line])
            guard = ast.Call(ast.Name("__raises__", ast.Load()), [name], [])
            return ast.With([ast.withitem(guard)], [node])
        return node


def is_print(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"


def show(value: object) -> None:
    print(repr(value))


@contextmanager
def raises(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        names = [kind.__name__ for kind in type(error).__mro__]
        assert name in names, f"it raised {names[0]}, not {name}: {error}"
    else:
        raise AssertionError(f"it did not raise {name}")


def run_doctest(code: str, namespace: dict[str, Any], place: str) -> str | None:
    test = doctest.DocTestParser().get_doctest(code, namespace, place, place, 0)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    runner.run(test, out=report.append, clear_globs=False)
    namespace.update(test.globs)
    return "".join(report) if runner.failures else None


def run_block(code: str, namespace: dict[str, Any], place: str) -> str | None:
    """Runs a block; what is not as the page says, or none."""
    if code.lstrip().startswith(">>> "):
        return run_doctest(code, namespace, place)
    shown = Shown(code)
    tree = ast.fix_missing_locations(shown.visit(ast.parse(code)))
    if missed := shown.raises.keys() - shown.met:
        return f"no statement ends where `# raises` stands: line {sorted(missed)}"
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(tree, place, "exec"), namespace)
    wanted, got = "\n".join(shown.arrows.values()), printed.getvalue().strip("\n")
    if shown.arrows and not doctest.OutputChecker().check_output(wanted + "\n", got + "\n", OPTIONS):
        return f"the page shows\n{wanted}\nand the block prints\n{got}"
    return None


def main() -> None:
    # What a thread of the page prints late must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    namespace: dict[str, Any] = {"__name__": "__main__", "__show__": show, "__raises__": raises}
    for line in sys.stdin:
        block = json.loads(line)
        try:
            error = run_block(block["code"], namespace, block["place"])
        except Exception:
            error = traceback.format_exc()
        print(json.dumps({"error": error}), file=answers, flush=True)


if __name__ == "__main__":
    main()
