"""Checks that the code in embedding.md stands in the example; run by scripts/test."""

import os
import re
import unittest

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.path.dirname(_FOLDER)


def _read(path):
  with open(path, encoding='utf-8') as file:
    return file.read()


def snippets(text):
  """Returns (path, code) of each block; the path named last before it counts."""
  found = []
  path = None
  for match in re.finditer(r'from\s+`([^`]+\.cc)`|^```cpp\n(.*?)^```$', text,
                           re.MULTILINE | re.DOTALL | re.IGNORECASE):
    if match.group(1):
      path = match.group(1)
    else:
      found.append((path, match.group(2)))
  return found


def pieces(code):
  """Returns the runs of lines between lines of "..."."""
  return re.split(r'^ *\.\.\.\n', code, flags=re.MULTILINE)


class EmbeddingTest(unittest.TestCase):

  def test_code_stands_in_the_file_that_is_named(self):
    found = snippets(_read(os.path.join(_FOLDER, 'embedding.md')))
    self.assertGreater(len(found), 5)
    for path, code in found:
      source = _read(os.path.join(_ROOT, path))
      for piece in pieces(code):
        self.assertIn(piece, source, path)

  def test_a_block_belongs_to_the_file_named_last(self):
    text = 'From `a.cc`:\n```cpp\nx\n...\ny\n```\nfrom `b.cc`\n```cpp\nz\n```\n'
    self.assertEqual(snippets(text), [('a.cc', 'x\n...\ny\n'), ('b.cc', 'z\n')])
    self.assertEqual(pieces('x\n...\ny\n'), ['x\n', 'y\n'])


if __name__ == '__main__':
  unittest.main()
