"""Home: found through the environment, refused where it is not safe."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kdengine import home as module
from kdengine.errors import HomeError
from kdengine.home import Home


def test_the_environment_names_it_and_the_folders_are_made(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_HOME", str(tmp_path / "a" / "b"))
    home = Home.find()
    assert home.root == tmp_path / "a" / "b"
    assert home.runs.is_dir() and list(home.runs.iterdir()) == []


def test_a_file_in_the_way_is_an_error_in_three_parts(tmp_path, monkeypatch):
    (tmp_path / "kd").write_text("x")
    monkeypatch.setenv("KD_HOME", str(tmp_path / "kd"))
    with pytest.raises(HomeError, match="another folder"):
        Home.find()


def test_a_network_disk_is_refused_unless_it_is_wanted(tmp_path, monkeypatch):
    parts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=str(tmp_path), fstype="nfs4")]
    monkeypatch.setattr(module.psutil, "disk_partitions", lambda all: parts)
    monkeypatch.setenv("KD_HOME", str(tmp_path / "kd"))
    with pytest.raises(HomeError, match="KD_ALLOW_NETWORK_DISK=1"):
        Home.find()
    monkeypatch.setenv("KD_ALLOW_NETWORK_DISK", "1")
    assert Home.find().root == tmp_path / "kd"
