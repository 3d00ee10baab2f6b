import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner import document, placeholders
from runner.placeholders import Reference, arguments, bind, parse, resolve, shell
from runner.quantities import MalformedError, Value

SHELLS = [name for name in ("sh", "bash") if shutil.which(name)]

# Each prints the value of `v` between brackets, from another place of the shell's grammar.
LINES = (
    "printf '[%s]' ${{ inputs.v }}",
    "printf '[%s]' \"${{ inputs.v }}\"",
    "printf '[%s]' '${{ inputs.v }}'",
    "printf '[%s]' \"$(printf '%s.' ${{ inputs.v }})\"",
    "printf '[%s]' \"$(printf '%s.' \"$(printf '%s' '${{ inputs.v }}')\")\"",
    "(printf '[%s]' ${{ inputs.v }}) # it's ${{ inputs.v }}\ntrue ${{ inputs.v }}",
    "case x in x) printf '[%s]' ${{ inputs.v }};; esac",
    "A=\\\"; printf '[%s]' ${{ inputs.v }}",
    'A="\\""; printf \'[%s]\' ${{ inputs.v }}',
    "A=x#y; printf '[%s]' '${{ inputs.v }}'",
    "A=${HOME#/}; printf '[%s]' ${{inputs.v}}",
    "A=`echo \"it's\"`; printf '[%s]' ${{inputs.v}}",
    "A=$((2 * (3 + 4))); printf '[%s]' ${{inputs.v}}",
)
HOSTILE = (
    "$(touch pwned)",
    "`touch pwned`",
    "x; touch pwned",
    "x\ntouch pwned\n#",
    'it\'s "quoted" $HOME ${HOME} \\',
    "' ; touch pwned ; '",
    '" ; touch pwned ; "',
    "*",
    "~",
    "",
    "-n",
    "a  b\t",
    "é — ü",
    "${{ secrets.X }}",
    "\\",
    "!!",
)


def printed(line: str, value: str, folder: Path, program: str) -> str:
    done = subprocess.run(
        [program, "-c", shell(line, {"v": value})], cwd=folder, capture_output=True, check=True, timeout=20
    )
    return done.stdout.decode()


@pytest.mark.parametrize("program", SHELLS)
@pytest.mark.parametrize("line", LINES)
def test_a_hostile_value_arrives_as_one_literal_argument(line: str, program: str, tmp_path: Path) -> None:
    for value in HOSTILE:
        got = printed(line, value, tmp_path, program)
        assert got in {f"[{value}]", f"[{value}.]", f"[{value.rstrip()}.]"}, value
    assert not list(tmp_path.iterdir())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    line=st.sampled_from(LINES[:3]),
)
def test_any_value_arrives_as_one_literal_argument(value: str, line: str, tmp_path: Path) -> None:
    assert printed(line, value, tmp_path, "sh") == f"[{value}]"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.lists(
        st.sampled_from(
            ["'a b'", '"c"', "$(echo d)", "\\'", '"$(echo "e")"', " # f'\n", "\\\\", "x#'y'", "${A:-z}"]
        ),
        max_size=4,
    ),
    glue=st.sampled_from([" ", ""]),
)
def test_what_stands_before_a_placeholder_does_not_matter(
    before: list[str], glue: str, tmp_path: Path
) -> None:
    line = "true " + glue.join(before) + "\nprintf '[%s]' ${{ inputs.v }}"
    got = printed(line, "$(touch pwned) ' \"", tmp_path, "sh")
    assert got == "[$(touch pwned) ' \"]"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("echo `echo ${{ inputs.v }}`", "between backquotes"),
        ("echo ${A:-${{ inputs.v }}}", "${…}"),
        ('echo "${A:-it\'s}" ${{ inputs.v }}', "${…}"),
        ("echo $((1 + ${{ inputs.v }}))", "arithmetic"),
        ("echo $[1 + ${{ inputs.v }}]", "arithmetic"),
        ("((A = ${{ inputs.v }}))", "arithmetic"),
        ("cat <<END\n${{ inputs.v }}\nEND", "here document"),
        ("echo $${{ inputs.v }}", "right behind a $"),
        ("echo \\${{ inputs.v }}", "right behind a backslash"),
        ('echo "\\${{ inputs.v }}"', "right behind a backslash"),
        ("echo $'a' ${{ inputs.v }}", "$'…'"),
        ("echo $(case x in x) echo ${{ inputs.v }};; esac)", "after case"),
        ('echo "${{ inputs.v }}', '" is not closed'),
    ],
)
def test_a_place_where_nothing_can_be_quoted_is_refused(line: str, reason: str) -> None:
    with pytest.raises(MalformedError) as refused:
        shell(line, {"v": "x"})
    assert reason in str(refused.value)


def test_a_value_with_a_nul_is_refused() -> None:
    with pytest.raises(MalformedError, match="NUL"):
        shell("echo ${{ inputs.v }}", {"v": "a\0b"})


def test_simple_values_are_written_without_quotes() -> None:
    line = "train --lr ${{ inputs.lr }} --n=${{ inputs.n }} '${{ inputs.on }}' \"e${{ inputs.e }}\""
    rendered = shell(line, {"lr": 0.01, "n": 5.0, "on": True, "e": 1e-05})
    assert rendered == "train --lr 0.01 --n=5 'true' \"e1e-05\""


@pytest.mark.parametrize(
    "line",
    ["printf '[%s]' {}", "printf '[%s]' \"{}\"", "printf '[%s]' '{}'", "printf '[%s]' \"$(printf %s {})\""],
)
@pytest.mark.parametrize(
    ("reference", "variable"),
    [
        ("datasets.mnist-1", "PUSHTRAIN_DATASET_MNIST_1"),
        ("secrets.WANDB_API_KEY", "WANDB_API_KEY"),
        ("run.id", "PUSHTRAIN_RUN_ID"),
        ("commit", "PUSHTRAIN_COMMIT"),
    ],
)
def test_what_is_known_at_start_stays_an_environment_variable(
    line: str, reference: str, variable: str
) -> None:
    rendered = shell(line.replace("{}", f"${{{{ {reference} }}}}"), {})
    value = "a  b'\"*$(x)"
    environment = {"PATH": os.environ["PATH"], variable: value}
    done = subprocess.run(
        ["sh", "-c", rendered], env=environment, capture_output=True, check=True, timeout=20
    )
    assert done.stdout.decode() == f"[{value}]"
    assert value not in rendered


def test_a_template_is_text_and_references() -> None:
    assert parse("a ${{ run.id }}b${{inputs.x-y}}") == (
        "a ",
        Reference(kind="run", name="id"),
        "b",
        Reference(kind="inputs", name="x-y"),
    )
    assert parse("") == ()
    assert parse("$X ${Y} {{ z }} $") == ("$X ${Y} {{ z }} $",)


def test_inputs_are_bound_early_and_the_rest_is_resolved_late() -> None:
    bound = bind(parse("${{ inputs.a }}:${{ secrets.KEY }}:${{ run.id }}"), {"a": 0.5})
    assert [str(part) for part in bound] == ["0.5", ":", "secrets.KEY", ":", "run.id"]
    assert resolve(bound, lambda reference: reference.variable.lower()) == "0.5:key:pushtrain_run_id"


def test_an_input_that_looks_like_a_placeholder_stays_text() -> None:
    bound = bind(parse("${{ inputs.a }}"), {"a": "${{ secrets.KEY }}"})
    assert resolve(bound, lambda reference: "leaked") == "${{ secrets.KEY }}"


def test_inputs_become_arguments() -> None:
    values: dict[str, Value] = {
        "learning-rate": 0.01,
        "epochs": 5,
        "fast": True,
        "slow": False,
        "note": "a b",
    }
    assert arguments(values) == ("--learning-rate", "0.01", "--epochs", "5", "--fast", "--note", "a b")


def test_a_value_with_a_leading_minus_is_not_taken_for_an_option() -> None:
    assert arguments({"shift": -0.5, "note": "-x"}) == ("--shift=-0.5", "--note=-x")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("${{ inputs.a", "${{ is not closed; expected ${{ name }}"),
        ("${{ inputs.a } }}", "is not closed"),
        ("${{ input.a }}", "${{ input.a }} names nothing known"),
        ("${{ inputs }}", "names nothing known"),
        ("${{ run.name }}", "names nothing known"),
        ("${{ inputs.a || 'x' }}", "names nothing known"),
        ("${{ }}", "names nothing known"),
    ],
)
def test_what_names_nothing_is_refused(template: str, message: str) -> None:
    with pytest.raises(MalformedError) as refused:
        parse(template)
    assert message in str(refused.value)


def faults(text: str) -> list[str]:
    return [str(fault) for fault in placeholders.check(document.parse(text, path="train.yml"))]


def test_an_undeclared_reference_is_a_fault_with_its_line_and_a_suggestion() -> None:
    assert faults("inputs: {rate: 1}\nrun: |\n  a\n  b ${{ inputs.rat }}\n") == [
        "train.yml:4:5: run: ${{ inputs.rat }} is not declared; expected rate (did you mean inputs.rate?)"
    ]


def test_a_secret_is_no_part_of_a_group_or_a_source() -> None:
    found = faults("secrets: [A]\nconcurrency: ${{ secrets.A }}\ndatasets: {d: '${{ secrets.A }}'}\n")
    assert [fault.partition(": ")[2].split(";")[0] for fault in found] == [
        "concurrency: ${{ secrets.A }} is not known here",
        "datasets.d: ${{ secrets.A }} is not known here",
    ]


def test_a_placeholder_in_a_list_or_another_section_is_a_fault() -> None:
    assert len(faults("name: ${{ ref }}\nenvironment: {pip: ['${{ inputs.a }}']}\n")) == 2


@given(st.text(alphabet="${}inputs. ar'\"\\`()<#\n", max_size=40))
def test_no_template_makes_the_check_fail_otherwise(text: str) -> None:
    import json

    placeholders.check(document.parse(json.dumps({"inputs": {"a": 1}, "run": text}), path="train.yml"))
