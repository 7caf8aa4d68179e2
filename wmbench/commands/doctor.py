"""``wmbench doctor``: what on this machine clashes or is missing, with the line that mends it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wmbench import machine, registry

Verdict = Literal["ok", "note", "broken"]
VULKAN_FIX = "apt-get install mesa-vulkan-drivers libvulkan1  (Mesa 25 or newer; on Debian 12 from bookworm-backports)"
VULKAN_FOLDERS = ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what, what was found, whether it is well, and how to mend it."""

    subject: str
    found: str
    verdict: Verdict
    fix: str = ""


def main() -> None:
    """Check versions, rendering, Vulkan and GPU, and say how to mend what is wrong."""
    console = Console()
    table = Table("", "subject", "found", "what to do", show_lines=False)
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "broken": "[red]broken[/]"}
    findings = diagnose()
    for f in findings:
        table.add_row(marks[f.verdict], escape(f.subject), escape(f.found), escape(f.fix))
    console.print(table)
    if any(f.verdict == "broken" for f in findings):
        sys.exit(1)


def diagnose() -> list[Finding]:
    """Look at everything; never raises for a fault it can report instead."""
    checks: list[Callable[[], list[Finding]]] = [python, requirements, plug_ins, opengl, vulkan, maniskill, accelerator]
    return [finding for check in checks for finding in check()]


def python() -> list[Finding]:
    """The interpreter's version against what the suite supports."""
    supported = (3, 11) <= sys.version_info[:2] <= (3, 12)
    return [
        Finding(
            "Python",
            f"{platform.python_version()} on {platform.system()} {platform.machine()}",
            "ok" if supported else "broken",
            "" if supported else "use Python 3.11 or 3.12: simulators the suite wraps have no wheels for others",
        )
    ]


def requirements() -> list[Finding]:
    """Every dependency of the distribution, installed version against declared range."""
    findings = []
    for line in importlib.metadata.requires("wmbench") or []:
        need = Requirement(line)
        extra = need.marker is not None and "extra" in str(need.marker)
        if need.name == "wmbench" or (extra and "dev" in str(need.marker)):
            continue
        try:
            version = importlib.metadata.version(need.name)
        except importlib.metadata.PackageNotFoundError:
            if not extra:
                findings.append(
                    Finding(need.name, "not installed", "broken", f"pip install '{need.name}{need.specifier}'")
                )
            else:
                name = str(need.marker).split("extra ==")[1].strip().strip("\"'")
                findings.append(
                    Finding(need.name, "not installed (optional)", "note", f"pip install 'wmbench[{name}]'")
                )
            continue
        fits = need.specifier.contains(version, prereleases=True)
        findings.append(
            Finding(
                need.name,
                version if fits else f"{version}, needed {need.specifier}",
                "ok" if fits else "broken",
                "" if fits else f"pip install '{need.name}{need.specifier}'" + _reason(need.name),
            )
        )
    return findings


def _reason(name: str) -> str:
    """Why a range is what it is, where the reason is not obvious."""
    return {"mujoco": "  (dm_control fails at load with any other)"}.get(name, "")


def plug_ins() -> list[Finding]:
    """Entry points of every group that cannot be imported."""
    findings = []
    groups = (registry.envs, registry.world_models, registry.policies, registry.measures, registry.commands)
    for group in groups:
        for name in group.names():
            try:
                group.load(name)
            except Exception as error:  # a third party's plug-in may fail in any way; it is reported, not hidden
                findings.append(
                    Finding(
                        f"{group.noun} {name!r}",
                        f"{type(error).__name__}: {error}",
                        "broken",
                        "mend or uninstall its package",
                    )
                )
    return findings or [Finding("plug-ins", "all import", "ok")]


def opengl() -> list[Finding]:
    """Which headless OpenGL backends draw a picture, tried in processes of their own."""
    chosen = os.environ.get("MUJOCO_GL")
    working = machine.opengl()
    if chosen and chosen not in working and chosen not in ("glfw",):
        fix = f"export MUJOCO_GL={working[0]}" if working else "apt-get install libegl1 libgl1-mesa-dri libosmesa6"
        return [Finding("OpenGL", f"MUJOCO_GL={chosen} does not draw; working: {working or 'none'}", "broken", fix)]
    if not working:
        return [
            Finding(
                "OpenGL",
                "neither EGL nor OSMesa draws: state tasks run, render_mode='rgb_array' will not",
                "note",
                "apt-get install libegl1 libgl1-mesa-dri  (or libosmesa6)",
            )
        ]
    return [
        Finding("OpenGL", f"{' and '.join(working)} draw(s); MUJOCO_GL={chosen or 'unset, chosen automatically'}", "ok")
    ]


def vulkan() -> list[Finding]:
    """Vulkan drivers that SAPIEN (ManiSkill's renderer) could use."""
    named = os.environ.get("VK_DRIVER_FILES") or os.environ.get("VK_ICD_FILENAMES")
    if named:
        missing = [p for p in named.split(os.pathsep) if not Path(p).exists()]
        if missing:
            return [Finding("Vulkan", f"no such driver file: {', '.join(missing)}", "note", "unset VK_ICD_FILENAMES")]
        return [Finding("Vulkan", named, "ok")]
    drivers = sorted(p.name for folder in VULKAN_FOLDERS for p in Path(folder).glob("*.json"))
    if drivers:
        return [Finding("Vulkan", ", ".join(drivers), "ok")]
    return [
        Finding(
            "Vulkan",
            "no driver: MuJoCo and dm_control do not need one, pixels of ManiSkill tasks would",
            "note",
            VULKAN_FIX,
        )
    ]


def maniskill() -> list[Finding]:
    """Whether ManiSkill's tasks can be made, and drawn: whether SAPIEN finds a device, in a process of its own."""
    try:
        version = importlib.metadata.version("mani_skill")
    except importlib.metadata.PackageNotFoundError:
        fix = "pip install 'wmbench[maniskill]'"
        return [Finding("ManiSkill", "not installed: tasks of suite maniskill are listed, not made", "note", fix)]
    if machine.vulkan():
        return [Finding("ManiSkill", f"{version}, SAPIEN finds a device to draw with", "ok")]
    found = f"{version}, state tasks run; SAPIEN finds no Vulkan device, so that pixels will not"
    return [Finding("ManiSkill", found, "note", VULKAN_FIX)]


def accelerator() -> list[Finding]:
    """Torch's build against the machine's GPU, asked in a process of its own."""
    probe = (
        "import json, torch; c = torch.cuda.is_available(); "
        "print(json.dumps([torch.__version__, torch.version.cuda, torch.get_num_threads(), "
        "torch.cuda.get_device_name(0) if c else None]))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    if done.returncode:
        return [Finding("torch", done.stderr.strip().splitlines()[-1], "broken", "pip install --force-reinstall torch")]
    version, cuda, threads, device = json.loads(done.stdout)
    if device:
        return [Finding("GPU", f"{device}, torch {version}", "ok")]
    if Path("/proc/driver/nvidia/version").exists():
        if cuda is None:
            return [
                Finding(
                    "GPU",
                    f"an NVIDIA driver, but torch {version} is a CPU build",
                    "note",
                    "install a CUDA build of torch",
                )
            ]
        return [
            Finding(
                "GPU",
                f"an NVIDIA driver, but torch {version} sees no device",
                "broken",
                "check nvidia-smi and the driver's age",
            )
        ]
    return [Finding("GPU", f"none; torch {version} on {threads} CPU threads", "ok")]
