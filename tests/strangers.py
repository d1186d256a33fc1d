"""Which faces examples/strangers.py keeps, and when it deletes them. Run by tests/examples/main.rs."""

import os
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
from strangers import Folder, Visits, square  # noqa: E402


class Keeps(unittest.TestCase):
    # 10 frames a second: the first and the eleventh are a second apart.

    def kept(self, frames):
        """The frames in which each face is kept, and the crops that are deleted."""
        visits, kept, deleted = Visits(), [], []
        for i, names in enumerate(frames):
            due, known = visits.update(i * 0.1, names)
            deleted += known
            for face in due:
                visits.add(i * 0.1, face, f"{face}-{i}")
                kept.append((i, face))
        return kept, deleted

    def test_an_unknown_face_each_second_up_to_three_times(self):
        kept, deleted = self.kept([{7: None}] * 100)
        self.assertEqual([face for _, face in kept], [7] * 3)
        self.assertEqual([i // 10 for i, _ in kept], [1, 2, 3])
        self.assertEqual(deleted, [])

    def test_nobody_who_is_known(self):
        self.assertEqual(self.kept([{7: "Ana"}] * 50), ([], []))

    def test_nobody_who_is_unknown_for_less_than_a_second(self):
        self.assertEqual(self.kept([{7: None}] * 9 + [{7: "Ana"}] * 20), ([], []))

    def test_not_what_turns_out_to_be_known(self):
        kept, deleted = self.kept([{7: None}] * 15 + [{7: "Ana"}] * 5)
        self.assertEqual(len(kept), 1)
        self.assertEqual(deleted, [f"7-{kept[0][0]}"])


class Stores(unittest.TestCase):
    def test_for_some_days_for_its_owner_alone_and_deletes_its_own_files_only(self):
        with tempfile.TemporaryDirectory() as above:
            folder = Folder(Path(above) / "kept", 2)
            old, new = folder.write(7, b"old"), folder.write(7, b"new")
            other = folder.path / "photo.jpg"
            other.write_bytes(b"mine")
            three_days_ago = time.time() - 3 * 86400
            for path in old, other:
                os.utime(path, (three_days_ago, three_days_ago))
            self.assertEqual(folder.path.stat().st_mode & 0o777, 0o700)
            self.assertEqual(new.stat().st_mode & 0o777, 0o600)
            Folder(folder.path, 2)
            self.assertEqual(sorted(folder.path.iterdir()), sorted([new, other]))

    def test_parts_inside_the_frame(self):
        face = {"x": 0.5, "y": 0.4, "w": 0.1, "h": 0.2}
        self.assertEqual(square(face, 1000, 500), (400, 100, 300, 300))
        corner = {"x": 0.0, "y": 0.0, "w": 0.1, "h": 0.2}
        self.assertEqual(square(corner, 1000, 500), (0, 0, 200, 200))


if __name__ == "__main__":
    unittest.main()
