"""Extensions are found by their files: nothing is imported, and a docstring that changes is read again."""

import importlib
import os
import sys

from diagnose.registry import Entry, entries


def test_a_module_is_listed_without_being_imported_and_read_again_when_it_changes(tmp_path, monkeypatch):
    package = tmp_path / "extensions_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "_own.py").write_text("raise RuntimeError\n")
    module = package / "is_odd.py"
    module.write_text('"""Is odd.\n\nMore."""\nraise RuntimeError\n')
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert entries(package.name) == [Entry("is-odd", f"{package.name}.is_odd", "Is odd.\n\nMore.")]
    before = module.stat().st_mtime_ns
    module.write_text('"""Is even."""\n')
    os.utime(module, ns=(before + 10**9, before + 10**9))
    assert [e.title for e in entries(package.name)] == ["Is even."]
    assert f"{package.name}.is_odd" not in sys.modules


def test_no_such_package_has_no_entries():
    assert entries("no_such_package_of_a_test") == []
