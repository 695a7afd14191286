"""Damage to files: bytes of anything, numbers and words of text, trees of JSON, headers of safetensors, archives."""

import io
import json
import re
import struct
import tarfile
import zipfile

NUMBERS = ("0", "-1", "1e999", "NaN", "-Infinity", "1e-320", "1e308", "9223372036854775808", "999999999999", "0.1", "", "x", "-0", "1e", "٣")  # fmt: skip
VALUES = (None, True, False, 0, -1, 1, 3, 1e12, 10**400, 1e-320, float("nan"), float("inf"), "", "x", "\0", "../x", [], {}, [0], [[]], {"a": 1}, "1000", 0.5, [1e9] * 3, 2**31, 2**63)  # fmt: skip


def some_bytes(rng, data):
    """Bytes changed, lost, doubled or added; the head, which says what the rest means, more often than the rest."""
    made = bytearray(data) or bytearray(b"\0")
    size = len(made)
    reach = size if rng.random() < 0.5 else min(size, 512)
    at, length = int(rng.integers(reach)), int(rng.integers(1, 2 ** rng.integers(1, 9) + 1))
    way = int(rng.integers(10))
    if way <= 1:  # single bits
        for place in rng.integers(reach, size=int(rng.integers(1, 9))):
            made[place] ^= 1 << int(rng.integers(8))
        return "bits flipped", bytes(made)
    if way == 2:
        for place in rng.integers(reach, size=int(rng.integers(1, 33))):
            made[place] = int(rng.integers(256))
        return "bytes drawn anew", bytes(made)
    if way == 3:
        return f"cut off after {at} of {size} bytes", bytes(made[:at])
    if way == 4:
        value = int(rng.choice([0, 255, 127, 128]))
        made[at : at + length] = bytes([value]) * len(made[at : at + length])
        return f"{length} bytes {value}", bytes(made)
    if way == 5:
        del made[at : at + length]
        return f"{length} bytes lost", bytes(made)
    if way == 6:
        return f"{length} bytes doubled", bytes(made[: at + length] + made[at:])
    if way == 7:
        return f"{length} bytes put in", bytes(made[:at]) + rng.bytes(length) + bytes(made[at:])
    if way == 8:
        return "junk behind the end", bytes(made) + rng.bytes(length)
    place = at - at % 2
    value = int(rng.choice([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]))
    made[place : place + 4] = struct.pack("<I" if rng.random() < 0.7 else ">I", value)
    return f"number {value} at byte {place}", bytes(made)


def text(rng, data):
    """Numbers, words and lines of a text file."""
    said = data.decode("utf-8", errors="replace")
    lines = said.splitlines()
    way = int(rng.integers(8))
    spot = int(rng.integers(len(lines))) if lines else 0
    if way <= 2 and (numbers := list(re.finditer(r"-?\d+\.?\d*(?:[eE][-+]?\d+)?", said))):
        found, value = numbers[int(rng.integers(len(numbers)))], str(rng.choice(NUMBERS))
        return f"{found[0]} -> {value!r}", (said[: found.start()] + value + said[found.end() :]).encode()
    if way == 3 and lines:
        gone = lines.pop(spot)
        return f"lost the line {gone.strip()[:50]!r}", "\n".join(lines).encode()
    if way == 4 and lines:
        return f"doubled the line {lines[spot].strip()[:50]!r}", "\n".join(
            [*lines[:spot], *lines[spot:][:1] * 2, *lines[spot + 1 :]]
        ).encode()
    if way == 5 and (words := re.findall(r"[A-Z_]{4,}[A-Z0-9_]*", said)):
        old, new = (str(rng.choice(words)) for _ in range(2))
        return f"{old} -> {new}", said.replace(old, new, 1 if rng.random() < 0.5 else -1).encode()
    if way == 6:
        coded = str(rng.choice(["utf-16", "utf-32", "utf-8-sig", "latin-1"]))
        return f"written as {coded}", said.encode(coded, errors="replace")
    return some_bytes(rng, data)


def tree(rng, data):
    """A value of JSON that is of another kind, lost, or named otherwise."""
    values = json.loads(data)
    places = list(_places(values))
    if not places or rng.random() < 0.1:
        value = VALUES[int(rng.integers(len(VALUES)))]
        return f"all is {value!r:.40}", json.dumps(value).encode()
    holder, key = places[int(rng.integers(len(places)))]
    way = rng.random()
    if way < 0.7:
        value = VALUES[int(rng.integers(len(VALUES)))]
        said = f"{key}: {holder[key]!r:.30} -> {value!r:.40}"
        holder[key] = value
    elif way < 0.85 or isinstance(holder, list):
        said = f"{key} is lost"
        del holder[key]
    else:
        said = f"{key} has another name"
        holder[f"{key}_"] = holder.pop(key)
    return said, json.dumps(values).encode()


def _places(values):
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in list(items)[:200]:
        yield values, key
        yield from _places(value)


def weights(rng, data):
    """The header of a safetensors file, or its numbers."""
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    way = int(rng.integers(6))
    if way == 0:
        said = "a number that is not finite"
        body[0:4] = struct.pack("<f", float(rng.choice([float("nan"), float("inf"), -float("inf")])))
    elif way == 1:
        said = "all numbers zero"
        body = bytearray(len(body))
    elif way == 2:
        said = "numbers beyond float16"
        body[0:400] = struct.pack("<f", 3e38) * 100
    elif way == 3:
        value = int(rng.choice([0, 2**63, 2**40, 3]))
        return f"header of {value} bytes", struct.pack("<Q", value) + data[8:]
    else:
        said, changed = tree(rng, json.dumps(header).encode())
        return said, struct.pack("<Q", len(changed)) + changed + bytes(body)
    head = json.dumps(header).encode()
    return said, struct.pack("<Q", len(head)) + head + bytes(body)


def archive(rng, data, name):
    """Members of a .tar or .zip that are not what a product holds."""
    if name.endswith(".zip"):
        return _zip(rng, data)
    mode = {"gz": "gz", "xz": "xz"}.get(name.rpartition(".")[2], "")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar if member.isfile()]
    spot = int(rng.integers(len(members)))
    odd, held = members[spot]
    way = int(rng.integers(10))
    said = (
        "points outside",
        "absolute",
        "link",
        "hard link",
        "device",
        "twice",
        "PAX size",
        "PAX name",
        "hidden",
        "deep",
    )[way]
    headers = {}
    if way <= 1:
        odd.name = ("../" * int(rng.integers(1, 9)) if way == 0 else "/") + odd.name
    elif way in (2, 3):
        odd.type, odd.linkname, odd.size, held = (tarfile.SYMTYPE if way == 2 else tarfile.LNKTYPE), "../../elsewhere/canary.tif", 0, b""  # fmt: skip
    elif way == 4:
        odd.type, odd.size, held = tarfile.CHRTYPE, 0, b""
    elif way == 5:
        members.append((odd, held))
    elif way == 6:
        headers = {"size": str(rng.choice(NUMBERS))}
    elif way == 7:
        headers = {
            "path": str(rng.choice(["\0", "", "a" * 5000, "é\n", "../x", "mtime"])),
            "mtime": str(rng.choice(NUMBERS)),
        }
    elif way == 8:
        odd.name = "." + odd.name
    else:
        odd.name = "d/" * int(rng.integers(1, 120)) + odd.name
    members[spot] = (odd, held)
    stored = io.BytesIO()
    with tarfile.open(fileobj=stored, mode=f"w:{mode}", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            member.pax_headers = headers if member is odd else {}
            tar.addfile(member, io.BytesIO(content))
    return f"a member: {said}", stored.getvalue()


def _zip(rng, data):
    with zipfile.ZipFile(io.BytesIO(data)) as given:
        members = {info.filename: given.read(info) for info in given.infolist()}
    names = sorted(members)
    odd = names[int(rng.integers(len(names)))]
    way = int(rng.integers(4))
    said = ("points outside", "absolute", "lost", "deep")[way]
    held = members.pop(odd)
    if way != 2:
        members[("../", "/", "", "d/" * 90)[way] + odd] = held
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return f"a member: {said}", stored.getvalue()


def damage(rng, path):
    """Damage a file in place by what suits it; what was done, in words."""
    data, ending = path.read_bytes(), path.suffix.lower()
    deep = rng.random() < 0.7
    try:
        if deep and ending in (".txt", ".xml", ".hdr", ".asc"):
            said, made = text(rng, data)
        elif deep and ending == ".json":
            said, made = tree(rng, data) if rng.random() < 0.7 else text(rng, data)
        elif deep and ending == ".safetensors":
            said, made = weights(rng, data)
        elif rng.random() < 0.5 and ending in (".tar", ".gz", ".xz", ".zip"):
            said, made = archive(rng, data, path.name)
        else:
            said, made = some_bytes(rng, data)
    except (tarfile.TarError, ValueError, OSError, struct.error):
        said, made = some_bytes(rng, data)
    path.write_bytes(made)
    return f"{path.name}: {said}"
