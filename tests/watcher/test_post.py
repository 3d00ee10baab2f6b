"""A repository goes by the name that GitHub has for it, and one that does not answer is asked ever less often."""

from __future__ import annotations

import threading
from pathlib import Path

from runner.answer import said
from runner.answer.desk import Options
from runner.answer.said import Said
from runner.github.client import Token
from runner.pipeline import Workshop
from runner.watcher.daemon import Daemon, due
from runner.watcher.post import Orders, Post
from tests.engines.project import wait_for
from tests.services.github import GitHub


def orders(github: GitHub, tmp_path: Path, *, looks: bool = False) -> Orders:
    shop = Workshop(
        home=tmp_path / "home", store_uri=str(tmp_path / "store"), engine_name="local", registry=None
    )
    return Orders(
        shop=shop,
        auth=lambda: Token(value=github.token),
        environ={"GITHUB_API_URL": github.url, "GITHUB_SERVER_URL": github.url},
        options=Options(train_file="train.yml", params=(), fresh=False, detach=False),
        every_s=1.0,
        looks=looks,
    )


def a_word(repository: str) -> Said:
    return Said(
        key="push-1",
        run_id="20200105-120000-0f6729",
        repository=repository,
        commit="0" * 40,
        job_url="",
        train_file="train.yml",
        word="",
    )


def test_a_name_as_it_was_typed_becomes_the_one_that_github_has(github: GitHub, tmp_path: Path) -> None:
    github.repository("Lab/Digits", {"train.yml": "name: digits\n"})
    post = Post(orders=orders(github, tmp_path, looks=True), name="lab/DIGITS", stop=threading.Event())
    assert post.watches("lab/digits")
    desk = post.desk()
    assert (desk.name, desk.repository.name, post.name) == ("Lab/Digits", "Lab/Digits", "Lab/Digits")
    assert desk.remote.url == f"{github.url}/Lab/Digits.git"
    assert (post.watches("Lab/Digits"), post.watches("lab/digits")) == (True, False)
    post.begin()
    (kept,) = (tmp_path / "store").glob("github/*/*/watch/*/seen.json")
    assert kept.relative_to(tmp_path / "store").parts[:3] == ("github", "Lab", "Digits")


def test_a_name_that_the_store_has_stays(github: GitHub, tmp_path: Path) -> None:
    github.repository("Lab/Digits", {"train.yml": "name: digits\n"})
    post = Post(orders=orders(github, tmp_path), name="lab/digits", stop=threading.Event(), kept=True)
    assert post.desk().name == "lab/digits"


def test_what_is_due_by_another_spelling_is_told_of_as_well(github: GitHub, tmp_path: Path) -> None:
    github.repository("Lab/Digits", {"train.yml": "name: digits\n"})
    told = orders(github, tmp_path, looks=True)
    names = ("Lab/Digits", "lab/digits")
    for name in names:
        said.open_outbox(told.shop.store, a_word(name))
        said.create(told.shop.store, a_word(name))
    assert set(due(told.shop.store)) == set(names)
    # Nobody ever made its run: it is forgotten by whoever looks at it.
    daemon = Daemon(orders=told, names=("LAB/digits",), others=True)
    thread = threading.Thread(target=daemon.run, daemon=True)
    thread.start()
    wait_for(lambda: not due(told.shop.store), what="an end of both")
    daemon.stop.set()
    thread.join(90)
    assert not thread.is_alive()


def test_a_repository_that_is_gone_is_asked_ever_less_often_until_nothing_is_due(
    github: GitHub, tmp_path: Path
) -> None:
    told = orders(github, tmp_path)
    word = a_word("lab/gone")
    said.create(told.shop.store, word)
    said.open_outbox(told.shop.store, word)
    post = Post(orders=told, name="lab/gone", stop=threading.Event(), kept=True)
    thread = threading.Thread(target=lambda: post.watch(until_idle=True), daemon=True)
    thread.start()
    wait_for(lambda: github.api_calls("GET", "/repos/lab/gone$")[3:], what="asked four times")
    assert thread.is_alive()
    first, *_, last = github.api_calls("GET", "/repos/lab/gone$")[:4]
    assert last.at_s - first.at_s >= 1 + 2 + 4 - 1
    said.close_outbox(told.shop.store, word)
    thread.join(90)
    assert not thread.is_alive()


def test_a_repository_of_which_nothing_is_due_is_not_asked(github: GitHub, tmp_path: Path) -> None:
    post = Post(orders=orders(github, tmp_path), name="lab/gone", stop=threading.Event(), kept=True)
    post.watch(until_idle=True)
    assert github.calls == []
