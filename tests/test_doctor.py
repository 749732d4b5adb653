"""The doctor tells what is there, what is not, and what to do, whatever adb and Vulkan do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from android_bench.choose_device import parse_devices
from mobile_matting_export import doctor
from mobile_matting_export.cli.doctor import doctor as doctor_command
from mobile_matting_export.doctor import Finding, examine, read_pins

FakeAdb = Callable[[str], None]

PHONE = "R5CT60XYZ              device usb:1-1 product:o1sxx model:SM_G991B device:o1s transport_id:1"


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeAdb:
    """Put a shell script named adb, and nothing else, on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(body: str) -> None:
        script = tmp_path / "adb"
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)

    return write


def listing(*lines: str) -> str:
    return "/bin/cat <<'END'\nList of devices attached\n" + "".join(f"{line}\n" for line in lines) + "\nEND"


def phones() -> Finding:
    return doctor._examine_adb(parse_devices)


def test_everything_is_examined_and_every_fault_has_a_remedy(tmp_path: Path) -> None:
    findings = {finding.name: finding for finding in examine(parse_devices, tmp_path)}
    assert {"Python", "torch", "ncnn", "Vulkan device (ncnn)", "Android phones (adb)"} <= findings.keys()
    assert {"bundled weights", "output folder", "extra [tensorflow]"} <= findings.keys()
    assert "pytest" not in findings
    assert findings["Python"].status == findings["torch"].status == "ok"
    for finding in findings.values():
        assert finding.found
        assert (finding.remedy == "") == (finding.status == "ok"), finding


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from mobile_matting_export.doctor import examine; examine(lambda text: []);"
        "print([name for name in ('torch', 'numpy', 'cv2', 'ncnn', 'tensorflow', 'onnx') if name in sys.modules])"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert child.stdout == "[]\n"


def test_no_adb_names_the_debian_package(adb: FakeAdb) -> None:
    finding = phones()
    assert finding.status == "missing"
    assert finding.remedy == "only to bench on phones: Debian package adb"


def test_a_ready_phone_is_named(adb: FakeAdb) -> None:
    adb(listing(PHONE))
    assert phones() == Finding("Android phones (adb)", "ok", "SM_G991B R5CT60XYZ (device)")


def test_no_phone_asks_for_one(adb: FakeAdb) -> None:
    adb(listing())
    finding = phones()
    assert finding.status == "missing" and "USB debugging" in finding.remedy


def test_an_unauthorized_phone_asks_for_the_prompt(adb: FakeAdb) -> None:
    adb(listing("R5CT60XYZ              unauthorized usb:1-1 transport_id:3"))
    finding = phones()
    assert finding.status == "warning" and "accept" in finding.remedy


def test_an_offline_phone_asks_to_plug_in_again(adb: FakeAdb) -> None:
    adb(listing("127.0.0.1:5555         offline transport_id:3"))
    finding = phones()
    assert finding.status == "warning" and "plug it in again" in finding.remedy


@pytest.mark.parametrize("status", [0, 1])
def test_status_without_a_listing_is_not_believed(adb: FakeAdb, status: int) -> None:
    adb(f"echo 'error: cannot connect to daemon' >&2; exit {status}")
    finding = phones()
    assert finding.status == "warning" and "cannot connect to daemon" in finding.found


def test_an_adb_that_hangs_is_given_up(adb: FakeAdb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ADB_TIMEOUT_S", 0.3)
    adb("exec /bin/sleep 20")
    finding = phones()
    assert finding.status == "warning" and "did not answer" in finding.found


def test_an_adb_of_another_architecture_is_told(adb: FakeAdb, tmp_path: Path) -> None:
    (tmp_path / "adb").write_bytes(b"\x7fELF" + bytes(60))
    (tmp_path / "adb").chmod(0o755)
    assert "cannot be run" in phones().found


def test_daemon_messages_and_states_of_several_words_are_read(adb: FakeAdb) -> None:
    adb(
        "echo '* daemon not running; starting now at tcp:5037'; echo '* daemon started successfully'\n"
        + listing(
            "0123456789     no permissions (user in plugdev group; wrong udev rules?); see [http://x] usb:1-2",
            "emulator-5554\toffline",
        )
    )
    finding = phones()
    assert finding.status == "warning" and "udev" in finding.remedy
    assert finding.found == "0123456789 (no permissions), emulator-5554 (offline)"


def test_a_recorded_listing_is_read(adb: FakeAdb, shared: Path) -> None:
    adb(f"exec /bin/cat '{shared / 'fixtures/adb/devices_l.txt'}'")
    finding = phones()
    assert finding.status == "ok"
    assert finding.found == (
        "Demo_S23 R5CX00DEMO1 (device), 0A1B2C3D4E5F (unauthorized), 127.0.0.1:6005 (offline), "
        "FAKE 127.0.0.1:6006 (recovery), sdk_demo emulator-5554 (device), 192.168.1.20:5555 (device)"
    )


def test_the_command_reads_listings_as_bench_does(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[object] = []
    monkeypatch.setattr(doctor, "examine", lambda parse: handed.append(parse) or [])
    assert CliRunner().invoke(doctor_command, []).exit_code == 0
    assert handed == [parse_devices]


def test_pins_are_read_by_normalized_name() -> None:
    text = "# pinned\nJinja2==3.1.6\nai_edge.litert == 2.3.0  # why\nloose>=1\n\n"
    assert read_pins(text) == {"jinja2": "3.1.6", "ai-edge-litert": "2.3.0"}


@pytest.mark.parametrize(
    ("installed", "pin", "status"),
    [("2.13.0+cpu", "2.13.0", "ok"), ("1.0", None, "ok"), ("1.0", "1.0", "ok"), ("1.0", "1.1", "warning")],
)
def test_a_version_is_held_against_its_pin(
    monkeypatch: pytest.MonkeyPatch, installed: str, pin: str | None, status: str
) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: installed)
    assert doctor._examine_distribution("thing", pin).status == status


def test_an_absent_distribution_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    finding = doctor._examine_distribution("thing", "1.2")
    assert finding.status == "missing" and "'thing==1.2'" in finding.remedy
    extra = doctor._examine_extra(["a>=1; extra == 'tensorflow'", "b; extra == 'dev'", "c"], "tensorflow")
    assert extra.status == "missing" and extra.found == "without a" and "onnx2tf" in extra.remedy


def test_the_remedy_for_an_extra_is_a_verb_in_a_checkout_and_pip_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = ["nosuchdistribution>=1; extra == 'tensorflow'"]
    assert doctor._examine_extra(lines, "tensorflow").remedy == "only for --backend onnx2tf: make tensorflow"
    monkeypatch.setattr(doctor, "_CONSTRAINTS", tmp_path / "none")
    assert doctor._examine_extra(lines, "tensorflow").remedy.endswith("pip install 'mmexport[tensorflow]'")


def test_brackets_are_printed_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding("extra [tensorflow]", "missing", "without [bold]x", "pip install 'mmexport[tensorflow]'")
    monkeypatch.setattr(doctor, "examine", lambda parse: [finding])
    shown = CliRunner().invoke(doctor_command, []).stdout
    for words in (finding.name, finding.found, finding.remedy):
        assert words in shown


@pytest.mark.parametrize(
    ("script", "status", "found"),
    [
        ('print("device: Fast GPU")\nprint("done")', "ok", "Fast GPU"),
        ('print("done")', "missing", "none"),
        ("import os; os.abort()", "warning", "status -6"),
        ('raise RuntimeError("no driver")', "warning", "no driver"),
    ],
)
def test_vulkan_may_answer_or_crash(monkeypatch: pytest.MonkeyPatch, script: str, status: str, found: str) -> None:
    monkeypatch.setattr(doctor, "_COUNT_VULKAN_DEVICES", script)
    finding = doctor._examine_vulkan()
    assert finding.status == status and found in finding.found


def test_vulkan_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_COUNT_VULKAN_DEVICES", "import time; time.sleep(20)")
    monkeypatch.setattr(doctor, "_VULKAN_TIMEOUT_S", 0.5)
    assert "no answer" in doctor._examine_vulkan().found


def test_missing_weights_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "models_folder", lambda: tmp_path / "none")
    assert doctor._examine_weights().status == "missing"


def test_the_output_folder_need_not_exist_and_is_not_made(tmp_path: Path) -> None:
    finding = doctor._examine_output(tmp_path / "a" / "b")
    assert finding.found.endswith("GB free")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "build").write_text("")
    finding = doctor._examine_output(tmp_path / "build")
    assert finding.status == "warning" and "is a file" in finding.found


def test_a_read_only_output_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    assert "Read-only" in doctor._examine_output(tmp_path).found


def test_scarce_space_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_SCARCE_SPACE", 1 << 62)
    finding = doctor._examine_output(tmp_path)
    assert finding.status == "warning" and "free some space" in finding.remedy
