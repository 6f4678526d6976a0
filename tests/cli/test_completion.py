"""`lth completion`: what the shells themselves answer with its scripts."""

import shutil
import subprocess

import pytest

from lth_keras.cli import completion, main
from lth_keras.experiments.config import presets


@pytest.fixture(scope="module")
def found():
    return completion.commands()


@pytest.fixture(scope="module")
def answers(found, tmp_path_factory):
    """A function from a line to what bash completes its last word to."""
    script = tmp_path_factory.mktemp("bash") / "lth.bash"
    script.write_text(completion.SHELLS["bash"](found))

    def answer(line):
        program = (f'source {script}; COMP_LINE="$1"; COMP_POINT=${{#1}}; _lth; '
                   'printf "%s\n" "${COMPREPLY[@]}"')
        ended = subprocess.run(["bash", "-c", program, "bash", line], capture_output=True,
                               text=True, check=True, cwd=script.parent)
        assert not ended.stderr
        return ended.stdout.split()
    return answer


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not there")
@pytest.mark.parametrize(("line", "expected"), [
    ("lth re", ["report"]), ("lth --v", ["--version"]), ("lth run vgg19_l",
                                                         ["vgg19_low", "vgg19_low_layerwise",
                                                          "vgg19_layerwise"]),
    ("lth run digits --st", ["--steps"]), ("lth run digits --backend ", ["loky", "ray", "dask"]),
    # bash has split the word at "=", and so gets what stands after it.
    ("lth run digits --set strategy=one", ["one_shot"]),
    ("lth run digits --set datas", [f"dataset={name}" for name in (
        "digits", "mnist", "cifar10", "mnist_8x8", "cifar10_8x8")]),
    ("lth run digits --set network=resn", ["resnet18", "resnet56", "resnet56_padded",
                                           "resnet110_padded"]),
    ("lth run digits --set learning_rate_", ["learning_rate_drops="]),
    ("lth analyse sur", ["survivors"]), ("lth data prepare mnist_", ["mnist_8x8"]),
    ("lth completion ", ["bash", "zsh", "fish"]), ("lth export runs --level ", ["best"]),
    ("lth report lth.", ["lth.bash"]), ("lth run digits --workdir lth.", ["lth.bash"])])
def test_bash_completes(line, expected, answers):
    assert sorted(answers(line)) == sorted(expected)


def test_every_command_preset_and_flag_is_known(found):
    assert [*found] == [*main.COMMANDS]
    assert found["run"].arguments == [(*presets.PRESETS,)]
    for name in main.COMMANDS:
        assert found[name].flags.keys() == main.parser_of(name).flags().keys()
    for shell in completion.SHELLS.values():
        text = shell(found)
        assert "@" not in text.replace("[@]", "")
        assert all(word in text for word in (*presets.PRESETS, *found, "resident_mib"))


@pytest.mark.parametrize(("shell", "options"), [("bash", ["-n"]), ("zsh", ["-f", "-n"]),
                                                ("fish", ["--no-execute"])])
def test_a_shell_reads_its_script(shell, options, found, tmp_path):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not there")
    (tmp_path / "lth").write_text(completion.SHELLS[shell](found))
    subprocess.run([shell, *options, str(tmp_path / "lth")], check=True)


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not there")
def test_fish_completes(found, tmp_path):
    (tmp_path / "lth.fish").write_text(completion.SHELLS["fish"](found))
    for line, expected in (("lth run digits --backend l", ["loky"]), ("lth analyse si", ["signs"])):
        ended = subprocess.run(["fish", "-c", f"source {tmp_path}/lth.fish; complete -C '{line}'"],
                               capture_output=True, text=True, check=True)
        assert ended.stdout.split() == expected


def test_an_unknown_shell_is_refused(capsys):
    assert main._main(main._parse(["lth", "completion", "bsh"])) == 2
    assert "SHELL must be one of bash, zsh, fish. Received: 'bsh'. Did you mean bash?" \
        in capsys.readouterr().err
