"""The section `search`: whole commands, from their start to their pictures."""

import csv
import pathlib

from benchmarks import process
from benchmarks.options import Options
from benchmarks.rows import Row, row


def search(options: Options) -> list[Row]:
    """One replicate with its control; then four replicates, one and two at once."""
    return [*_one(options), *_four(options)]


def lth(folder: pathlib.Path, *, steps: int, rounds: int, replicates: int = 1, jobs: int = 1,
        threads: int = 1, every: int = 100) -> list[str]:
    """The command of a search for tickets on MNIST with its results in a folder."""
    return process.module(
        "lth_keras", "run", "lenet_300_100", f"--steps={steps}", f"--rounds={rounds}",
        f"--replicates={replicates}", "--branches=ticket", f"--jobs={jobs}",
        f"--threads={threads}", f"--set=validation_every={every}", f"--workdir={folder}")


def seconds(folder: pathlib.Path, branch: str = "ticket") -> dict[int, list[float]]:
    """The seconds of a branch's trainings, by level."""
    found: dict[int, list[float]] = {}
    with (folder / "results.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            if line["branch"] == branch:
                found.setdefault(int(line["level"]), []).append(float(line["seconds"]))
    return found


def _one(options: Options) -> list[Row]:
    rounds, steps = (2, 200) if options.quick else (16, 6000)
    folder = options.folder / "one"
    asked = f"lenet_300_100 --steps {steps} --rounds {rounds}"
    whole = process.run(process.module("lth_keras", "run", *asked.split(),
                                       f"--workdir={folder}")).seconds
    options.say(f"lth run {asked}: {whole:.1f} s")
    ticket = {level: values[0] for level, values in seconds(folder).items()}
    first, last = ((ticket[1] + ticket[2]) / 2, (ticket[rounds - 1] + ticket[rounds]) / 2)

    def part(name: str, value: float, against: float, reference: str) -> Row:
        return row("search", f"lth run {asked}", name, [value], unit="s", against=[against],
                   reference=reference)

    return [part("whole command", whole, whole, "whole command"),
            part("ticket of level 1", ticket[1], ticket[1], "level 1"),
            part(f"ticket of level {rounds}", ticket[rounds], ticket[1], "level 1"),
            part("tickets of levels 1 and 2, mean", first, first, "levels 1 and 2"),
            part(f"tickets of levels {rounds - 1} and {rounds}, mean", last, first,
                 "levels 1 and 2")]


def _four(options: Options) -> list[Row]:
    rounds, steps = (1, 100) if options.quick else (2, 6000)
    subject = f"four replicates of --rounds {rounds} --steps {steps} --branches ticket"
    settings = {"--jobs 1 --threads 2": (1, 2), "--jobs 1 --threads 1": (1, 1),
                "--jobs 2 --threads 1": (2, 1)}
    whole, tickets = {}, {}
    for name, (jobs, threads) in settings.items():
        folder = options.folder / f"four_{jobs}_{threads}"
        whole[name] = process.run(lth(folder, steps=steps, rounds=rounds, replicates=4,
                                      jobs=jobs, threads=threads)).seconds
        options.say(f"four replicates, {name}: {whole[name]:.1f} s")
        tickets[name] = {path.relative_to(folder).as_posix(): path.read_bytes()
                         for path in folder.rglob("ticket.safetensors")}
    one, two = "--jobs 1 --threads 2", "--jobs 2 --threads 1"
    rows = [row("search", subject, "whole command", [value], unit="s", against=[whole[one]],
                reference=one, setting=name) for name, value in whole.items()]
    # The other way round: how much more is done in the same time.
    networks = 4 * (rounds + 1)
    hourly = {name: 3600 * networks / value for name, value in whole.items()}
    rows.append(row("search", subject, "throughput", [hourly[two]], unit="networks an hour",
                    against=[hourly[one]], reference=one, setting=two))
    for name in (one, "--jobs 1 --threads 1"):
        alike = sum(tickets[name].get(path) == content for path, content in tickets[two].items())
        rows.append(row("search", subject, "tickets equal byte for byte", [alike],
                        unit=f"of {len(tickets[two])}", against=[len(tickets[two])],
                        reference=f"those of {name}", setting=two))
    return rows
