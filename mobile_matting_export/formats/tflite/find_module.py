"""Finds the PyTorch module path in a tensor's name, as litert-torch or ``shorten_names`` wrote it.

litert-torch's name is a path of ``<package>.<Class>_<attribute>`` joined with ``/``, ended by ``;`` and a number;
an operation that absorbed others joins several with ``;;``. The root and converters' wrappers have no attribute.
A short name is the path itself, ``@`` and a number; ai-edge-quantizer appends words such as ``_dequant``.
"""

from __future__ import annotations

import re

# the class ends where an underscore meets what attributes begin with: ERD_SegNet_seg_extract is seg_extract;
# a name that is all capitals, or begins with one, is cut at its first underscore
_ATTRIBUTE = re.compile(r"^\w*?_(?=[a-z0-9])(?P<lower>\w+)$|^[^_]*_(?P<first>\w+)$")
_SHORT = re.compile(r"^(?P<path>[^;/@]*)@\d+(_\w+)?$")
_WEIGHTY = re.compile(r"\.(Conv\w*|Linear)_\w+$")

_WRAPPER = "litert_torch."  # its channels-last wrapper holds the network as .wrapped


def find_module(tensor_name: str) -> str:
    """``net.enc_block0.conv`` from the name of an operation's output; empty where the name tells no module.

    Of several modules in one operation (a convolution with its batch norm and activation), the convolution's
    or linear layer's path is given, else the first.
    """
    short = _SHORT.match(tensor_name)
    if short:
        return short["path"]
    paths = [part for part in re.split(r";+", tensor_name) if "/" in part or _looks_like_module(part)]
    written = [(path, _attributes(path)) for path in paths]
    known = [(path, found) for path, found in written if found]
    if not known:
        return ""
    weighty = [found for path, found in known if _WEIGHTY.search(path)]
    return (weighty or [found for _, found in known])[0]


def _looks_like_module(part: str) -> bool:
    return part.count(".") >= 1 and re.search(r"\.[A-Z]\w*$", part) is not None


def _attributes(path: str) -> str:
    names = []
    places = path.split("/")
    if places[0].startswith(_WRAPPER):
        places = places[1:]
        places[:1] = [place.removesuffix("_wrapped") for place in places[:1]]
    for place in places:
        package, dot, tail = place.rpartition(".")
        if not dot or not package or not re.match(r"[A-Za-z_]", tail):
            return ""  # TensorFlow's names have slashes, too, but no class
        matched = _ATTRIBUTE.match(tail)
        if matched and tail[0].isupper():
            names.append(matched["lower"] or matched["first"])
        elif not tail[0].isupper():
            return ""
    return ".".join(names)
