"""When examples/door.py opens, and when it must not. Run by tests/examples/main.rs."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
from door import AccessControl  # noqa: E402


def opened(frames, allowed=("Ana", "Ben"), step=0.1):
    """For whom the door opens, and at which frame. A frame is a dict of names by id, or None for one
    without faces, for which there is no message."""
    access = AccessControl(allowed, seen_for=1.0)
    return [(i, name) for i, faces in enumerate(frames) if faces is not None
            for name in access.update(i * step, faces)]


class Opens(unittest.TestCase):
    # 10 frames a second: the first and the eleventh are a second apart.

    def test_after_a_second(self):
        self.assertEqual(opened([{1: "Ana"}] * 11), [(10, "Ana")])

    def test_to_each_of_two_people(self):
        frames = [{1: "Ana"}] * 3 + [{1: "Ana", 2: "Ben"}] * 20
        self.assertEqual(opened(frames), [(10, "Ana"), (13, "Ben")])

    def test_although_frames_and_the_track_are_lost(self):
        frames = [{1: "Ana"}] * 5 + [None] * 3 + [{2: "Ana"}] * 5
        self.assertEqual(opened(frames), [(10, "Ana")])

    def test_once_in_a_visit_and_again_in_the_next(self):
        visit = [{1: "Ana"}] * 200
        self.assertEqual(opened(visit + [None] * 30 + visit), [(10, "Ana")])
        self.assertEqual(opened(visit + [None] * 60 + visit), [(10, "Ana"), (270, "Ana")])


class StaysClosed(unittest.TestCase):
    def test_to_short_observations(self):
        self.assertEqual(opened([{1: "Ana"}] * 10 + [None] * 20 + [{1: "Ana"}] * 10), [])

    def test_to_unknown_people_and_to_those_who_may_not_pass(self):
        self.assertEqual(opened([{1: "Eve", 2: None}] * 50), [])

    def test_when_the_name_changes(self):
        self.assertEqual(opened(([{1: "Ana"}] * 5 + [{1: "Ben"}]) * 10), [])
        self.assertEqual(opened(([{1: "Ana"}] * 5 + [{1: None}]) * 10), [])

    def test_when_the_name_moves_to_another_face(self):
        self.assertEqual(opened([{1: "Ana", 2: None}] * 6 + [{1: None, 2: "Ana"}] * 6), [])

    def test_without_times_and_when_time_runs_backwards(self):
        self.assertEqual(opened([{1: "Ana"}] * 50, step=float("nan")), [])
        self.assertEqual(opened([{1: "Ana"}] * 50, step=-0.1), [])


if __name__ == "__main__":
    unittest.main()
