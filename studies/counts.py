"""Counts what says how a package is built: folders, lengths, imports, documentation.

    python studies/counts.py [FOLDER...]

of each checkout, this one by default, in columns of one Markdown table.
"""

import ast
import io
import pathlib
import statistics
import sys
import tokenize

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
from rooms import House, NEVER  # noqa: E402

PACKAGE = "lth_keras"
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# The modules that keep what a process leaves behind and read it back, under old and new names:
# those that read and write files; and those that say where files lie, how one is known to be what
# was written, and what of a fit is kept.
FILES = {"atomic", "json_checks", "tensor_file", "ticket_file", "ticket", "workdir_lock",
         "owners", "search_workdir", "state_file", "background", "record", "store", "repair",
         "files", "shapes", "tensorfile", "ticketfile", "locks", "workdir", "statefile"}
AROUND_THEM = {"paths", "checksums", "checkpointer", "model_identity", "round_record",
               "layout", "resume", "identity", "rounds"}


def main() -> None:
    """Prints the table of the checkouts that the command line names."""
    folders = [pathlib.Path(folder) for folder in sys.argv[1:]] or [ROOT]
    columns = [counts(folder / PACKAGE) for folder in folders]
    print(f"| | {' | '.join(folder.resolve().name for folder in folders)} |")
    print(f"|---|{'---:|' * len(folders)}")
    for name in columns[0]:
        print(f"| {name} | {' | '.join(column[name] for column in columns)} |")


def counts(root: pathlib.Path) -> dict[str, str]:
    """What is counted of a package -> the figure, in words."""
    house = House(root)
    texts = {name: path.read_text() for name, path in house.files.items()}
    lines = {name: len(text.splitlines()) for name, text in texts.items()}
    lengths = [lines[name] for name in house.modules]
    functions = sorted(length for name in house.files for length in _functions(house.tree(name)))
    folders = [sum(house.package_of(name) == package for name in house.files)
               for package in house.packages]
    public = [node for name in house.modules for node in house.tree(name).body
              if isinstance(node, DEFINITIONS) and not node.name.startswith("_")]
    documented = [node for node in public if ast.get_docstring(node)]
    shown = [node for node in documented if ">>>" in (ast.get_docstring(node) or "")]
    comments = sum(map(_comments, texts.values()))
    forbidden = {arrow for package in NEVER for arrow in house.forbidden(package)}
    return {
        "modules, lines": f"{len(lengths)}, {sum(lines.values()):,}",
        "packages": f"{len(house.packages)}",
        "most files in a folder": f"{max(folders)}",
        "module, median and longest": f"{statistics.median(lengths):.0f}, {max(lengths)}",
        "function, 95th of 100 and longest": f"{_percentile(functions, 95)}, {functions[-1]}",
        "import cycles": f"{len(house.cycles())}",
        "imports against the packages' order, and against the never-list":
            f"{len(house.upward())}, {len(forbidden)}" if len(house.packages) > 1
            else "no packages",
        "longest import chain": f"{_chain(house)}",
        "comment lines in 1,000": f"{1000 * comments / sum(lines.values()):.0f}",
        "public names documented, with an example that runs":
            f"{len(documented) / len(public):.0%}, {len(shown) / len(public):.0%}",
        "lines that keep and read back, and those of code":
            _lines_of(house, texts, FILES | AROUND_THEM),
        "the same without paths, checksums and what is kept of a fit":
            _lines_of(house, texts, FILES),
    }


def _lines_of(house: House, texts: dict[str, str], names: set[str]) -> str:
    chosen = [texts[name] for name in house.modules if name.rpartition(".")[2] in names]
    return f"{sum(len(text.splitlines()) for text in chosen):,}, {sum(map(_code, chosen)):,}"


def _code(text: str) -> int:
    """Lines that are not empty, nor a comment and nothing else, nor of a docstring."""
    said = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, *DEFINITIONS)) and ast.get_docstring(node):
            said |= {*range(node.body[0].lineno, node.body[0].end_lineno + 1)}
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") and number not in said
               for number, line in enumerate(text.splitlines(), 1))


def _functions(tree: ast.AST) -> list[int]:
    """The lengths of all functions and methods, their docstrings left out."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            said = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
            found.append(node.end_lineno - node.lineno + 1 - said)
    return found


def _comments(text: str) -> int:
    """Lines that are a comment and nothing else."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
               for token in tokens)


def _percentile(ordered: list[int], percent: int) -> int:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _chain(house: House) -> int:
    """The most modules of which each imports the next; the chain ends at a cycle."""
    longest: dict[str, int] = {}

    def length(module: str, above: frozenset[str]) -> int:
        if module not in longest:
            others = house.imports(module)[0] - {"", module} - above
            longest[module] = 1 + max((length(other, above | {module}) for other in others),
                                      default=0)
        return longest[module]
    return max(length(module, frozenset()) for module in house.modules)


if __name__ == "__main__":
    main()
