"""The order of the packages, what each may never reach, and a package's imports as they are."""

import ast
import functools
import pathlib

# A package imports from those before it and from itself; the modules at the top from each other.
ORDER = ("", "core.structures", "core", "controls", "files", "graph", "strong", "search",
         "search.fit", "search.verification", "initial", "sparse_training", "costs",
         "keras2.inspection", "keras2.masking", "keras2", "keras2.verification", "keras2.initial",
         "keras2.sparse_training", "keras3", "keras3.verification", "keras3.initial",
         "keras3.sparse_training", "experiments.config", "experiments.results",
         "experiments.training", "experiments.training_keras2", "experiments.training_keras3",
         "experiments",
         "deployment.models", "deployment.compaction", "deployment.comparison",
         "deployment.conversion", "deployment",
         "reports.plots", "reports.analyses", "reports.analyses.networks", "reports", "api", "cli")
# What the order alone would allow.  Each holds for all that a package reaches, however far.
NEVER = {
    "core": {"files"},
    "controls": {"files"},
    "files": {"keras2", "experiments"},
    "graph": {"keras2", "keras3", "experiments"},
    "strong": {"keras2", "keras3", "experiments"},
    "search": {"keras2", "keras3", "experiments"},
    "initial": {"keras2", "keras3", "experiments"},
    "sparse_training": {"keras2", "keras3", "experiments"},
    "costs": {"keras2", "keras3", "experiments"},
    "keras2": {"keras3", "experiments"},
    "keras3": {"keras2"},
    "experiments.config": {"keras2", "keras3"},
    "experiments.results": {"keras2", "keras3"},
    "experiments.training": {"keras2", "keras3"},
    "experiments.training_keras2": {"keras3"},
    "experiments.training_keras3": {"keras2", "experiments.training_keras2"},
    "reports": {"keras2", "keras3", "experiments.training"},
    "deployment": {"reports"},
}
WITHOUT_TENSORFLOW = ("core", "controls", "files", "graph", "strong", "search", "initial",
                      "sparse_training", "costs", "experiments.config", "experiments.results",
                      "reports")
TENSORFLOW = {"tensorflow", "tf_keras", "keras", "tensorflow_model_optimization",
              "tensorflow_datasets"}
MOST_FILES = 12
# Packages that are public as a whole, lth.strong.embed: they import what is asked of them.
PUBLIC_PACKAGES = ("strong",)
# What may name any module: they import it when somebody asks `lth_keras` for one of its names.
FRONT_DOOR = ("", "saved_names")


class House:
    """The modules of a package and their imports, read from its source without importing it.

    Args:
      root: the package's folder.

    Attributes:
      files: module -> its file; a package goes by its folder's name, the root by "".
      packages: the names of those that are packages.
      modules: the others, sorted.
    """

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.files = {self._name(path): path for path in sorted(self.root.rglob("*.py"))}
        self.packages = {name for name, path in self.files.items() if path.stem == "__init__"}
        self.modules = sorted(self.files.keys() - self.packages)

    def _name(self, path):
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def package_of(self, module):
        """The package that a module lies in; of a package itself."""
        return module if module in self.packages else module.rpartition(".")[0]

    @functools.cache  # noqa: B019  There are one or two for the life of a process.
    def tree(self, module):
        """The module, parsed."""
        return ast.parse(self.files[module].read_text())

    @functools.cache  # noqa: B019
    def imports(self, module):
        """The modules of the package and the outside packages that a module imports, anywhere.

        A module that is reached by its name counts too: in a text that is the name, as for
        importlib, or as one of the names that the front door imports when they are asked for.
        """
        inside, outside = set(), set()
        for node in ast.walk(self.tree(module)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{module} imports by a relative name"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                top, _, rest = name.partition(".")
                if top != self.root.name:
                    outside.add(top)
                    continue
                rest = self.homes.get(rest, rest)
                while rest not in self.files:  # A name in a module.
                    rest = rest.rpartition(".")[0]
                inside.add(rest)
        if module not in FRONT_DOOR:
            inside |= self._named(module)
        return inside, outside

    @functools.cached_property
    def homes(self):
        """What the front door imports when it is asked for: name -> module."""
        return {key.value: self._module(value.value)
                for module in FRONT_DOOR if module in self.files
                for node in ast.walk(self.tree(module)) if isinstance(node, ast.Dict)
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
                and self._module(value.value)}

    def _module(self, text):
        # The module that a text names, with or without the package's own name.
        if not isinstance(text, str) or "." not in text:
            return None
        name = text.partition(":")[0].removeprefix(f"{self.root.name}.")
        return name if name in self.files and name else None

    def _named(self, module):
        nodes = list(ast.walk(self.tree(module)))
        package = {alias.asname or alias.name for node in nodes if isinstance(node, ast.Import)
                   for alias in node.names if alias.name == self.root.name}
        texts = [self._module(node.value) for node in nodes if isinstance(node, ast.Constant)]
        attributes = [self.homes.get(node.attr) for node in nodes
                      if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
                      and node.value.id in package]
        return {name for name in (*texts, *attributes) if name}

    def reached(self, module):
        """A module and all that it imports, directly or not."""
        found, waiting = set(), [module]
        while waiting:
            now = waiting.pop()
            if now not in found:
                found.add(now)
                waiting += self.imports(now)[0] - {""}
        return found

    def upward(self):
        """Imports from a package after the importing module's own, as (module, imported)."""
        arrows = []
        for module in self.modules:
            if module != "__main__" and self.package_of(module) in ORDER:
                allowed = ORDER[:ORDER.index(self.package_of(module)) + 1]
                arrows += [(module, other) for other in sorted(self.imports(module)[0])
                           if self.package_of(other) not in allowed]
        return arrows

    def forbidden(self, package):
        """Modules of a package and what they reach against NEVER, as (module, reached)."""
        return [(module, other) for module in self.modules if within(module, package)
                for other in sorted(self.reached(module))
                if any(within(other, never) for never in NEVER[package])]

    def cycles(self):
        """Modules that import each other by way of others, each group once."""
        reached = {module: self.reached(module) for module in self.modules}
        groups = {frozenset(other for other in reached[module] & reached.keys()
                            if module in reached[other]) for module in self.modules}
        return sorted(sorted(group) for group in groups if len(group) > 1)


def within(module, package):
    """Whether a module is a package or lies in it."""
    return module == package or module.startswith(f"{package}.")
