"""Read the processor: clusters of cores with their clocks, instruction sets, and affinity masks. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from android_bench.unknown import UNKNOWN, Unknown

# one line a core; the parent folder may not be listed on some phones, so the numbers are tried one by one
CORES_SCRIPT = """core=0
while [ $core -lt 64 ]; do
  folder=/sys/devices/system/cpu/cpu$core/cpufreq
  line=cpu$core
  for name in related_cpus cpuinfo_max_freq scaling_max_freq scaling_cur_freq scaling_governor; do
    value=
    read -r value < "$folder/$name"
    line="$line|$value"
  done
  case $line in *'|||||') ;; *) echo "$line";; esac
  core=$((core + 1))
done 2>/dev/null"""


@dataclass(frozen=True)
class Cluster:
    """Cores that share one clock. Clocks in kHz.

    ``scaling_max_khz`` below ``max_khz`` means that heat (or somebody) holds the clock down. ``features``: of
    /proc/cpuinfo, those that all its cores have (asimddp: dot product, i8mm: int8 matrix product, asimdhp: fp16).
    ``parts``: the different core designs in it, as the processor numbers them; more than one is possible.
    """

    cpus: tuple[int, ...]
    max_khz: int | Unknown = UNKNOWN
    scaling_max_khz: int | Unknown = UNKNOWN
    cur_khz: int | Unknown = UNKNOWN
    governor: str | Unknown = UNKNOWN
    features: tuple[str, ...] | Unknown = UNKNOWN
    parts: tuple[str, ...] | Unknown = UNKNOWN

    @property
    def mask(self) -> str:
        """Affinity mask of its cores for ``taskset``, hexadecimal."""
        return affinity_mask(self.cpus)

    @property
    def is_capped(self) -> bool | Unknown:
        """Whether its clock is held down."""
        if self.max_khz == UNKNOWN or self.scaling_max_khz == UNKNOWN:
            return UNKNOWN
        return self.scaling_max_khz < self.max_khz

    def as_dict(self) -> dict[str, Any]:
        """For the report's ``cores``."""
        return {**asdict(self), "mask": self.mask}


@dataclass(frozen=True)
class Core:
    """A core of /proc/cpuinfo: features, and its design as the processor numbers it (``0x41/0xd46``)."""

    features: frozenset[str]
    part: str


def affinity_mask(cpus: Iterable[int]) -> str:
    """Mask of cores for ``taskset``: bit n for core n, hexadecimal without prefix."""
    return f"{sum(1 << cpu for cpu in set(cpus)):x}"


def read_cores(frequencies: str, cpuinfo: str = "") -> tuple[Cluster, ...]:
    """Clusters, slowest first, of what ``CORES_SCRIPT`` prints and of /proc/cpuinfo; empty when nothing may be read."""
    known = read_cpuinfo(cpuinfo)
    clusters: dict[tuple[int, ...], Cluster] = {}
    for line in frequencies.splitlines():
        match = re.fullmatch(r"cpu(\d+)\|([\d ]+)\|(\d*)\|(\d*)\|(\d*)\|(\w*)", line.strip())
        if match is None:
            continue
        cpus = tuple(sorted(map(int, match[2].split())))
        if cpus and cpus not in clusters:
            highest, allowed, now = (int(value) if value else UNKNOWN for value in match.groups()[2:5])
            features, parts = _common(cpus, known)
            clusters[cpus] = Cluster(cpus, highest, allowed, now, match[6] or UNKNOWN, features, parts)
    return tuple(sorted(clusters.values(), key=_speed))


def read_cpuinfo(text: str) -> dict[int, Core]:
    """Core number -> what /proc/cpuinfo of an Arm kernel tells; cores that sleep are missing there."""
    cores = {}
    for block in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([^:\n]+?)\s*:[ \t]*(.*?)\s*$", block, flags=re.MULTILINE))
        if fields.get("processor", "").isdigit() and "Features" in fields:
            part = f"{fields.get('CPU implementer', '?')}/{fields.get('CPU part', '?')}"
            cores[int(fields["processor"])] = Core(frozenset(fields["Features"].split()), part)
    return cores


def _common(cpus: Sequence[int], known: dict[int, Core]) -> tuple[tuple[str, ...] | Unknown, tuple[str, ...] | Unknown]:
    if not all(cpu in known for cpu in cpus):
        return UNKNOWN, UNKNOWN
    shared = frozenset.intersection(*(known[cpu].features for cpu in cpus))
    return tuple(sorted(shared)), tuple(dict.fromkeys(known[cpu].part for cpu in cpus))


def _speed(cluster: Cluster) -> tuple[int, int]:
    return (0 if cluster.max_khz == UNKNOWN else cluster.max_khz, cluster.cpus[0])


def biggest_first(clusters: Sequence[Cluster]) -> list[Cluster]:
    """Clusters by number of cores, the faster of two equals first."""
    return sorted(clusters, key=lambda cluster: (len(cluster.cpus), *_speed(cluster)), reverse=True)


def choose_cluster(clusters: Sequence[Cluster], threads: int) -> Cluster | None:
    """The fastest cluster with a core for each thread, else the biggest; None when the clusters are unknown.

    One cluster only: threads on cores of different speed wait for the slowest.
    """
    fitting = [cluster for cluster in clusters if len(cluster.cpus) >= threads]
    if fitting:
        return max(fitting, key=_speed)
    return next(iter(biggest_first(clusters)), None)
