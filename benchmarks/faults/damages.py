"""Stored files that are damaged between two commands, in every way we could think of.

The second command has to end as if nothing had happened, to name what is damaged, and to move it
aside if it is a stored step; it must not touch what lies outside the results.
"""

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from benchmarks.faults.cases import Case, Found
from benchmarks.faults.commands import Command
from benchmarks.faults.experiments import copied
from benchmarks.faults.moments import FILE_EVENT, Moment

PATIENCE = 60.0  # seconds; what takes longer hangs
STEPS = (".json", ".safetensors")
OUTSIDE = "outside"


@dataclass(frozen=True)
class Damage:
    """A way to damage a file."""

    apply: Callable[[Path, Case], None]
    suffixes: tuple[str, ...] = ()  # of the stored steps that it is for; empty: of any file
    is_reported: bool = True


def of_finished(case: Case) -> Found:
    """A file of a finished run is damaged."""
    copied(case.experiment.results, case.results)
    return _damage(case)


def of_half_finished(case: Case) -> Found:
    """A file of a run is damaged that was killed."""
    count = case.experiment.counts[FILE_EVENT]
    moment = Moment(FILE_EVENT, case.random.randrange(count // 4, count), signal.SIGKILL)
    case.tell(moment)
    Command.forked(
        case.arguments, case.folder, lambda: moment.prepare(case.results, case.folder / "told")
    ).wait()
    return _damage(case)


def _damage(case: Case) -> Found:
    """Damage a file, run the command again, and say what is wrong then."""
    files = [path for path in sorted(case.results.rglob("*")) if _can_be_damaged(path)]
    path = case.random.choice(files)
    steps = _is_step(path)
    names = [
        name
        for name, damage in DAMAGES.items()
        if not damage.suffixes or (steps and path.suffix in damage.suffixes)
    ]
    name = case.random.choice(names)
    damage = DAMAGES[name]
    case.tell(f"{name}: {path.relative_to(case.results)}")
    before = path.read_bytes()
    damage.apply(path, case)
    outside = _content(case.folder / OUTSIDE)
    is_other = not path.is_file() or path.read_bytes() != before
    ended = Command.forked(case.arguments, case.folder).wait(PATIENCE)
    problems = ended.problems()
    if steps and damage.is_reported and is_other:
        problems += _problems_of_report(path, case, ended.err)
    if _content(case.folder / OUTSIDE) != outside:
        problems.append("something outside was changed")
    return Found(
        problems + case.experiment.problems(case.results, but=_may_differ(path, name, case))
    )


def _may_differ(path: Path, name: str, case: Case) -> Callable[[str], bool]:
    """Which files need not be as before: those that nothing reads, and nets that were deleted.

    Runs have their own copies of the nets that they share, and delete their last nets themselves
    when they are told to clean up.
    """
    if ".nets" in path.parts:
        return lambda file: ".nets" in Path(file).parts
    if name == "deleted" and path.suffix == ".safetensors":
        return lambda file: file == str(path.relative_to(case.results))
    return lambda file: False


def _can_be_damaged(path: Path) -> bool:
    """Whether it is a file, and not the lock of a process that was killed."""
    return path.is_file() and path.suffix not in (".lock", ".part", ".right")


def _is_step(path: Path) -> bool:
    return path.suffix in STEPS and ("steps" in path.parts or ".nets" in path.parts)


def _problems_of_report(path: Path, case: Case, err: str) -> list[str]:
    """What is wrong with how a damaged step was reported and moved aside."""
    if f"damaged: {path}" not in err:
        if _was_not_read(path, case):
            return []
        return [f"the file is not named: {err!r}"]
    store = next(one for one in path.parents if one.name == "steps" or one.parent.name == ".nets")
    aside = store / "damaged" / path.relative_to(store)
    return [] if os.path.lexists(aside) else ["the file was not moved aside"]


def _was_not_read(path: Path, case: Case) -> bool:
    """Whether a file is of no use to the run: a net without its record, or one it has a copy of."""
    return ".nets" in path.parts or (
        path.suffix == ".safetensors" and not path.with_suffix(".json").exists()
    )


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _truncate(path: Path, case: Case) -> None:
    os.truncate(path, case.random.randrange(max(1, path.stat().st_size)))


def _empty(path: Path, case: Case) -> None:
    path.write_bytes(b"")


def _zero(path: Path, case: Case) -> None:
    content = bytearray(path.read_bytes())
    start = case.random.choice([0, len(content) // 2])
    content[start:] = bytes(len(content) - start)
    path.write_bytes(content)


def _flip(path: Path, case: Case) -> None:
    content = bytearray(path.read_bytes())
    content[case.random.randrange(len(content))] ^= 1 << case.random.randrange(7)
    path.write_bytes(content)


def _lengthen(path: Path, case: Case) -> None:
    path.write_bytes(path.read_bytes() + b"\n{}")


def _swap(path: Path, case: Case) -> None:
    others = [one for one in sorted(case.results.rglob(f"*{path.suffix}")) if one.is_file()]
    path.write_bytes(case.random.choice(others).read_bytes())


def _bring(path: Path, case: Case) -> None:
    """Take the file of the same name from another run."""
    foreign = case.experiment.foreign
    assert foreign is not None
    inside = path.relative_to(case.results).parts[2:]
    others = list(foreign.rglob("/".join(inside)))
    path.write_bytes(others[0].read_bytes() if others else b"of another run")


def _delete(path: Path, case: Case) -> None:
    path.unlink()


def _put_folder(path: Path, case: Case) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("a file")


def _outside(path: Path, case: Case) -> Path:
    folder = case.folder / OUTSIDE
    folder.mkdir()
    return shutil.copy(path, folder / path.name)


def _link(path: Path, case: Case) -> None:
    """A link to a file elsewhere that is another one."""
    target = _outside(path, case)
    target.write_bytes(b"something else")
    path.unlink()
    path.symlink_to(target)


def _link_to_nothing(path: Path, case: Case) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _link_to_itself(path: Path, case: Case) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _link_folder(path: Path, case: Case) -> None:
    """The folder of the file is a link to one of another run."""
    foreign = case.experiment.foreign
    assert foreign is not None
    outside = case.folder / OUTSIDE
    shutil.copytree(foreign, outside)
    inside = path.relative_to(case.results).parts[2:-1]
    found = sorted(outside.rglob("/".join(inside))) if inside else []
    shutil.rmtree(path.parent)
    path.parent.symlink_to(found[0] if found else outside)


def _put_pipe(path: Path, case: Case) -> None:
    path.unlink()
    os.mkfifo(path)


def _forbid(path: Path, case: Case) -> None:
    path.chmod(0)  # which means little to root


def _nest(path: Path, case: Case) -> None:
    path.write_text("[" * 100_000 + "]" * 100_000)


def _rewritten(path: Path, change: Callable[[dict], None]) -> None:
    """Change a record, and give it the digest that it should have then."""
    stored = json.loads(path.read_text())
    change(stored)
    stored.pop("sha256", None)
    digest = hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**stored, "sha256": digest}, indent=1))


def _of_other_version(path: Path, case: Case) -> None:
    version = case.random.choice([0, 2, 99, "1", None])
    _rewritten(path, lambda stored: stored.update(version=version))


def _of_other_key(path: Path, case: Case) -> None:
    _rewritten(path, lambda stored: stored.update(key=f"{stored['key']}0"))


def _absurd(path: Path, case: Case) -> None:
    """A value of the record is no such value, though the digest is right."""
    value = case.random.choice([float("nan"), float("inf"), "1", None, [], {"a": 1}, True])

    def change(stored: dict) -> None:
        record = stored["record"]
        places = [(record, name) for name in record]
        places += [(epoch, name) for epoch in record.get("epochs", []) for name in epoch]
        place, name = case.random.choice(places)
        if place[name] is None or type(place[name]) is type(value):
            value_ = "a wrong type" if not isinstance(place[name], str | None) else 5.5
        else:
            value_ = value
        if isinstance(place[name], str) or place[name] is None:
            value_ = 5.5
        place[name] = value_
        case.tell(f"{name} is {value_!r}")

    _rewritten(path, change)


def _of_other_form(path: Path, case: Case) -> None:
    """A part of the stored is no such part, though the digest is right."""
    name = case.random.choice(["record", "owner", "key"])
    value = case.random.choice([5, None, [], "text", {"a": 1}, [5]])
    case.tell(f"{name} is {value!r}")
    _rewritten(path, lambda stored: stored.update({name: value}))


def _of_other_inputs(path: Path, case: Case) -> None:
    """It was computed from other nets than those that are there."""
    value = case.random.choice([[5], ["0" * 64], ["0" * 64] * 3])
    case.tell(f"inputs are {value!r}")
    _rewritten(path, lambda stored: stored.update(inputs=value))


def _not_json(path: Path, case: Case) -> None:
    content = [b"[]", b"5", b'"x"', b"null", b"\xff\xfe\x00", b"{}", b"1e999", b"9" * 10_000]
    path.write_bytes(case.random.choice(content))


def _of_other_shape(path: Path, case: Case) -> None:
    """A valid file with a tensor of another shape, name or type, and its digest in the record."""
    tensors = safetensors.torch.load_file(path)
    names = sorted(tensors)
    name = case.random.choice([one for one in names if one.startswith(("tensor:", "mask:"))])
    way = case.random.choice(["shape", "name", "type", "missing"])
    case.tell(f"{way} of {name}")
    tensor = tensors.pop(name)
    if way == "shape":
        tensors[name] = torch.cat([tensor.flatten(), tensor.flatten()])
    elif way == "name":
        tensors[f"{name}x"] = tensor
    elif way == "type":
        tensors[name] = tensor.to(torch.float64)
    path.write_bytes(safetensors.torch.save(tensors))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if path.with_suffix(".json").exists():
        _rewritten(path.with_suffix(".json"), lambda stored: stored.update(state=digest))


def _leave_temporary(path: Path, case: Case) -> None:
    """What a process that was killed may leave beside a file."""
    number = case.random.choice([1, 4_000_000])
    path.with_name(f".{path.name}.{number}.part").write_bytes(path.read_bytes()[:10])


DAMAGES = {
    "truncated": Damage(_truncate),
    "emptied": Damage(_empty),
    "zeroed": Damage(_zero),
    "a bit flipped": Damage(_flip),
    "lengthened": Damage(_lengthen),
    "swapped": Damage(_swap),
    "foreign": Damage(_bring),
    "deleted": Damage(_delete, is_reported=False),
    "a folder": Damage(_put_folder),
    "a link": Damage(_link),
    "a link to nothing": Damage(_link_to_nothing),
    "a link to itself": Damage(_link_to_itself),
    "its folder a link": Damage(_link_folder, STEPS, is_reported=False),
    "a pipe": Damage(_put_pipe),
    "no permissions": Damage(_forbid, is_reported=False),
    "nested": Damage(_nest, (".json",)),
    "of another version": Damage(_of_other_version, (".json",)),
    "of another key": Damage(_of_other_key, (".json",)),
    "absurd values": Damage(_absurd, (".json",)),
    "another form": Damage(_of_other_form, (".json",)),
    "of other nets": Damage(_of_other_inputs, (".json",), is_reported=False),
    "not JSON": Damage(_not_json, (".json",)),
    "another shape": Damage(_of_other_shape, (".safetensors",)),
    "a temporary file": Damage(_leave_temporary, is_reported=False),
}
