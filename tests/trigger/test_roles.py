from typing import get_args

import pytest

from runner.trigger import Role, allows

ROLES: tuple[Role, ...] = get_args(Role)


@pytest.mark.parametrize("wanted", ROLES[1:])
@pytest.mark.parametrize("role", ROLES)
def test_a_role_lets_in_itself_and_those_above(wanted: Role, role: Role) -> None:
    assert allows([wanted], role) == (ROLES.index(role) >= ROLES.index(wanted))


def test_the_lowest_of_several_roles_counts() -> None:
    assert allows(["admin", "triage"], "write")
    assert not allows(["admin", "maintain"], "write")


@pytest.mark.parametrize("roles", [[], ["none"], ["owner"], ["none", "everyone"]])
def test_nobody_gets_in_by_a_role_that_is_none(roles: list[str]) -> None:
    assert not any(allows(roles, role) for role in ROLES)
