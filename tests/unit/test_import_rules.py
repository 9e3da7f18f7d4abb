"""The rules for imports in pyproject.toml name all that there is."""

import tomllib

from tests.process import ROOT

#: What stages may import beside the package itself.
PUBLIC = {"rabbit.terminal", "rabbit.testing"}


def test_a_new_part_of_the_library_is_no_stages_to_import() -> None:
    """Unless it is public: the rule is a list, and what it forgets would be allowed."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (rule,) = (each for each in rules["contracts"] if each["name"].startswith("A stage imports"))
    parts = {
        f"rabbit.{each.stem}"
        for each in (ROOT / "shared" / "rabbit").iterdir()
        if each.stem[0] != "_" and (each.suffix == ".py" or (each / "__init__.py").exists())
    }

    assert set(rule["forbidden_modules"]) == parts - PUBLIC
