"""State files of layouts that have no fixture, taken apart and put together by runtimes-v1 §8."""

import json
import struct
import unittest
from dataclasses import replace

from kvcap_ref.errors import Refusal
from kvcap_ref.manifest import CONVOLUTION, INDEX_KEY, KEY, LATENT, RECURRENT, ROPE_KEY, VALUE
from kvcap_ref.states import llama_cpp, mlx_lm
from kvcap_ref.states.found import Found, check
from kvcap_ref.states.residue import Residue
from kvcap_ref.states.restore import joined

F16, F32 = 1, 3


class File:
    """A file in the making, and where its banks lie."""

    def __init__(self, data=b""):
        self.data, self.regions = data, []

    def words(self, *words):
        self.data += struct.pack(f"<{len(words)}i", *words)
        return self

    def rows(self, kind, row, cells):
        self.data += struct.pack("<iQ", kind, row)
        return self.region(row * cells)

    def transposed(self, kind, element, channels, cells):
        return self.words(kind, element, channels).region(element * channels * cells)

    def region(self, length):
        if length:
            self.regions.append((len(self.data), len(self.data) + length))
        self.data += bytes([0xA5]) * length
        return self

    def cells(self, positions, sequence=0):
        for position in positions:
            self.words(position, 1, sequence)
        return self

    def residue(self):
        at, segments = 0, []
        for start, end in [*joined(sorted(self.regions)), (len(self.data), None)]:
            if at < start:
                segments.append((at, self.data[at:start]))
            at = end
        table = b"".join(struct.pack("<QQ", start, len(data)) for start, data in segments)
        head = struct.pack("<QI", len(self.data), len(segments))
        return Residue(head + table + b"".join(data for _, data in segments))


def sequence(version=3, tokens=(1, 2)):
    return File().words(0x67677371, version, len(tokens), *tokens)


def rows(role, layer, heads, tokens, dim, held=("from", 0), index=0, window=0, dtype=F16):
    return Found(role, layer, dtype, [0, heads, tokens, dim], held, window, (), index)


class LlamaCpp(unittest.TestCase):
    def written_back(self, file, banks):
        residue = file.residue()
        found = llama_cpp.parse(residue, banks)
        self.assertEqual(joined(check(found, residue.length)), residue.holes())
        self.assertEqual(found, banks)
        return found

    def refused(self, code, file, banks):
        with self.assertRaises(Refusal) as caught:
            llama_cpp.parse(file.residue(), banks)
        self.assertEqual(caught.exception.code, code)

    def test_layers_heads_and_windows_are_the_manifests(self):
        file = sequence()
        for _ in range(2):
            file.words(1, 2).cells((4, 5)).words(0, 1).rows(1, 16, 2).rows(1, 32, 2)
        held = ("from", 4)
        banks = [rows(KEY, 3, 2, 2, 4, held), rows(VALUE, 3, 2, 2, 8, held)]
        banks += [rows(KEY, 1, 2, 2, 4, held, window=64), rows(VALUE, 1, 2, 2, 8, held, window=64)]
        found = self.written_back(file, banks)
        self.assertEqual([part.by_head for bank in found for part in bank.parts], [8, 16, 8, 16])
        # other positions, another size, another number of banks
        self.refused(923, file, [replace(b, rows=("from", 5)) for b in banks])
        self.refused(923, file, [replace(b, shape=[0, 2, 2, 5]) for b in banks])
        self.refused(923, file, banks[:3])

    def test_keys_alone_are_what_the_manifest_says(self):
        file = sequence().words(1, 2).cells((0, 1)).words(0, 2).rows(1, 24, 2).rows(1, 24, 2)
        self.written_back(file, [rows(LATENT, 0, 1, 2, 12), rows(LATENT, 1, 1, 2, 12)])

    def test_streams_are_indices_and_transposed_values_have_channels(self):
        file = sequence(tokens=()).words(2)
        for positions in ((0, 1), (7, 9)):
            file.words(2).cells(positions).words(1, 1).rows(1, 16, 2).transposed(1, 2, 8, 2)
        listed = ("listed", (7, 9))
        banks = [rows(KEY, 0, 2, 2, 4), rows(VALUE, 0, 2, 2, 4)]
        banks += [rows(KEY, 0, 2, 2, 4, listed, 1), rows(VALUE, 0, 2, 2, 4, listed, 1)]
        found = self.written_back(file, banks)
        part = found[1].parts[0]
        self.assertEqual((part.row, part.by_head, part.by_dim, part.by_token), (2, 16, 4, 2))

    def test_recurrent_states_are_halved_at_the_end_of_the_file(self):
        file = sequence().words(1, 5, 0, 0, 4)
        for row in (12, 12, 12, 32, 32, 32):
            file.rows(0, row, 1)
        found = [(CONVOLUTION, 12), (RECURRENT, 32)]
        banks = [
            Found(role, layer, F32, [1, 1, row // 4], None, 0, ()) for role, row in found for layer in (0, 2, 3)
        ]
        self.written_back(file, banks)

    def test_one_old_cell_is_the_section_that_the_manifest_says(self):
        file = sequence(2, (1,)).words(1, 0, 0, 0, 2)
        for row in (16, 16, 32, 32):
            file.rows(1, row, 1)
        attention = [rows(role, layer, 2, 1, dim) for role, dim in ((KEY, 4), (VALUE, 8)) for layer in (0, 1)]
        self.written_back(file, attention)
        recurrent = [
            Found(role, layer, F16, [1, 1, size], None, 0, ())
            for role, size in ((CONVOLUTION, 8), (RECURRENT, 16))
            for layer in (0, 1)
        ]
        self.written_back(file, recurrent)


class MlxLm(unittest.TestCase):
    def test_a_latent_layer_is_the_manifests(self):
        def tensor(start, end, dim):
            return f'{{"dtype":"F16","shape":[1,1,2,{dim}],"data_offsets":[{start},{end}]}}'

        sizes = {"0.0.0": 6, "0.0.1": 2, "0.1.0": 4, "0.1.1": 4}
        at, tensors = 0, []
        for name, dim in sizes.items():
            tensors.append(f'"{name}":{tensor(at, at + 4 * dim, dim)}')
            at += 4 * dim
        metadata = '"0.0.0.0":"KVCache","0.0.0.1":"KVCache","0.0.1.0":"","0.0.1.1":"","2.0":"CacheList"'
        header = f'{{"__metadata__":{{{metadata}}},{",".join(tensors)}}}'.encode()
        file = File(struct.pack("<Q", len(header)) + header)
        for dim in sizes.values():
            file.region(4 * dim)
        residue = file.residue()
        latent = [rows(LATENT, 0, 1, 2, 6), rows(ROPE_KEY, 0, 1, 2, 2)]
        latent += [rows(INDEX_KEY, 0, 1, 2, 4), rows(INDEX_KEY, 0, 1, 2, 4, index=1)]
        self.assertEqual(mlx_lm.parse(residue, latent), latent)
        plain = [rows(KEY, 0, 1, 2, 6), rows(VALUE, 0, 1, 2, 2)]
        plain += [rows(KEY, 0, 1, 2, 4, index=1), rows(VALUE, 0, 1, 2, 4, index=1)]
        self.assertEqual(mlx_lm.parse(residue, plain), plain)

    def file(self, metadata, tensors):
        """A safetensors file whose tensors are regions; F16 unless another type stands before the shape."""
        at, entries = 0, {}
        for name, (*dtype, shape) in tensors.items():
            dtype = dtype[0] if dtype else "F16"
            size = {"F16": 2, "F32": 4, "U32": 4}[dtype]
            for number in shape:
                size *= number
            entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
            at += size
        header = json.dumps({"__metadata__": metadata, **entries}).encode()
        file = File(struct.pack("<Q", len(header)) + header)
        for entry in entries.values():
            start, end = entry["data_offsets"]
            file.region(end - start)
        return file

    def swift(self, *caches):
        metadata, tensors = {"1.model": "some.model"}, {}
        for layer, (name, numbers, held) in enumerate(caches):
            metadata[f"2.{layer}"] = name
            metadata |= {f"0.{layer}.{n}": text for n, text in enumerate(numbers)}
            tensors |= {f"{layer}.{n}": shape for n, shape in enumerate(held)}
        return self.file(metadata, tensors)

    def found(self, file):
        residue = file.residue()
        banks = mlx_lm.parse(residue, [])
        self.assertEqual(joined(check(banks, residue.length)), residue.holes())
        return banks

    def refused(self, code, file):
        with self.assertRaises(Refusal) as caught:
            mlx_lm.parse(file.residue(), [])
        self.assertEqual(caught.exception.code, code)

    def test_numbers_of_older_versions_begin_with_the_step(self):
        six = [("U32", [1, 2, 9, 8]), ("F16", [1, 2, 9, 1]), ("F16", [1, 2, 9, 1])]
        names = [f"0.{half}.{part}" for half in (0, 1) for part in range(3)]
        metadata = {"2.0": "QuantizedKVCache", **{f"0.0.{n}": x for n, x in enumerate(("256", "+9", "32", "08"))}}
        triplet = [48, 8, 32, F16]
        banks = [rows(role, 0, 2, 9, 32, dtype=triplet) for role in (KEY, VALUE)]
        self.assertEqual(self.found(self.file(metadata, dict(zip(names, six + six)))), banks)
        ring = {"2.0": "RotatingKVCache", **{f"0.0.{n}": x for n, x in enumerate(("2", "8", "256", "9", "3"))}}
        held = ("listed", (0, 1, 8, 3, 4, 5, 6, 7))
        found = self.found(self.file(ring, {"0.0": ([1, 2, 8, 4],), "0.1": ([1, 2, 8, 4],)}))
        self.assertEqual(found, [rows(role, 0, 2, 8, 4, held, window=8) for role in (KEY, VALUE)])

    def test_lists_of_mlx_swift_lm_may_be_empty(self):
        pair, states = [([1, 2, 9, 4],)] * 2, [([1, 3, 16],), ("F32", [1, 2, 8, 8])]
        file = self.swift(("KVCache", [""], []), ("MambaCache", ["2", ""], []), ("KVCacheSimple", [], pair))
        self.assertEqual(self.found(file), [rows(role, 2, 2, 9, 4) for role in (KEY, VALUE)])
        inner = ["2", "ArraysCache", "2", "2", "4", "1,3", "KVCache", "2", "1", ""]
        banks = self.found(self.swift(("CacheList", inner, states + pair)))
        self.assertEqual([bank.role for bank in banks], [RECURRENT, RECURRENT, KEY, VALUE])
        for code, cache in (
            (921, ("CacheList", ["1", *inner[1:]], states + pair)),
            (921, ("ArraysCache", ["2", "0,0"], states)),
            (921, ("ArraysCache", ["2", "0,,1"], states)),
            (922, ("ArraysCache", ["65", "0,1"], states)),
            (922, ("ArraysCache", ["2", "0,1", "0,0"], states)),
            (922, ("KVCache", ["9"], pair)),
            (921, ("RotatingKVCache", ["2", "8", "256", "9223372036854775808", "3"], pair)),
        ):
            self.refused(code, self.swift(("KVCache", [""], pair), cache))

    def test_headers_that_json_alone_would_accept(self):
        metadata = {"2.0": "KVCache", "0.0": ""}
        whole = self.file(metadata, {"0.0": ([1, 1, 1, 2],), "0.1": ([1, 1, 1, 2],)})
        self.found(whole)
        for old, new in (
            (b"[0, 4]", b"[-0, 4]"),
            (b'"2.0"', b'"1.\\ud800": "", "2.0"'),
            (b'"2.0"', b'"1.x": "\\udc00", "2.0"'),
            (b'{"__m', b'{"0.0": 1, "__m'),
        ):
            header = whole.data[8 : whole.regions[0][0]].replace(old, new)
            file = File(struct.pack("<Q", len(header)) + header)
            self.refused(921, file.region(4).region(4))
        header = whole.data[8 : whole.regions[0][0]] + b"\n"
        self.refused(921, File(struct.pack("<Q", len(header)) + header).region(4).region(4))

    def test_rings(self):
        self.assertEqual(mlx_lm.ring(16, 31, 4, 16, 7), (16, ("listed", (*range(4), *range(28, 31), *range(19, 28)))))
        self.assertEqual(mlx_lm.ring(8, 3, 0, 8, 3), (3, ("from", 0)))
        self.assertEqual(mlx_lm.ring(8, 20, 0, 8, 8), (8, ("from", 12)))
        for wrong in ((8, 20, 8, 8, 8), (7, 20, 0, 8, 7), (8, 20, 2, 8, 2), (8, 8, 0, 8, 7)):
            with self.assertRaises(Refusal):
                mlx_lm.ring(*wrong)


if __name__ == "__main__":
    unittest.main()
