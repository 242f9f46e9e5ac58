#!/usr/bin/env python3
"""Checks which targets may depend on what. See README.md.

    bazel query --output=xml --notool_deps --noimplicit_deps 'deps(//...)' \\
        | check_dependencies.py WORKSPACE_FOLDER

Exits 1 and prints each violation when there is any.
"""

import collections
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

GRPC = '@com_github_grpc_grpc//'
PROTOBUF = '@com_google_protobuf//'
KVM = 'linux/kvm.h'

# Set by every cc_* macro of @rules_cc, and by nothing else.
RULES_CC_TAG = '__CC_RULES_MIGRATION_DO_NOT_USE_WILL_BREAK__'

# Programs, and tests that cross packages: they may use everything.
PROGRAMS = ['//examples', '//tools', '//tests', '//benchmarks']

# The control API, the service behind it and the socket in front of it.
API_USERS = [
    '//proto',
    r're://vmm/control:(hotplug_service|hotplug_convert|control_server)\w*',
] + PROGRAMS

Only = collections.namedtuple('Only', 'what users')
Never = collections.namedtuple('Never', 'who what with_tests')

# Who alone may reach something. A plain entry is a package and all below it,
# re: a pattern for the whole label.
ONLY = [
    Only(KVM, ['//vmm/kvm', '//examples', '//tests', '//benchmarks']),
    Only(GRPC, API_USERS),
    # Factories of devices parse the messages of the API.
    Only(PROTOBUF, API_USERS + ['//devices/factories']),
]

# Who may never reach something.
NEVER = [
    Never('//vmm', ['//devices'], with_tests=True),
    Never(
        '//devices/virtio',
        [
            '//devices/virtio_msg',
            '//devices/virtio_msg_amp_pci',
            '//vmm/pci',
            '//vmm/kvm',
            '//vmm/control',
        ],
        with_tests=False,
    ),
    Never(
        '//devices/virtio_msg',
        ['//devices/virtio_msg_amp_pci', '//vmm/pci', '//vmm/kvm'],
        with_tests=False,
    ),
] + [
    # What runs without an operating system. guest/driver/testing is the host's,
    # and vmm/boot:boot_info.h is the one header that both sides share.
    Never(
        guest,
        [
            r're://vmm/(?!boot:boot_info\.h$).*',
            '//devices',
            '@com_google_absl//',
            GRPC,
            PROTOBUF,
        ],
        with_tests=False,
    )
    for guest in [
        r're://guest/driver:.*',
        '//guest/payload',
        r're://guest/adversary:(?!thread_writer$).*',
    ]
]

# Includes that need a library, whether or not a BUILD file says so: Debian's
# headers are in /usr/include, where the compiler finds them anyway.
INCLUDES = {
    re.compile(r'linux/kvm\w*\.h'): KVM,
    re.compile(r'grpc(pp)?/.*'): GRPC,
    re.compile(r'.*\.grpc\.pb\.h'): GRPC,
    re.compile(r'google/protobuf/.*\.h'): PROTOBUF,
    re.compile(r'.*\.pb\.h'): PROTOBUF,
}
INCLUDE_LINE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


class Target:
  """A node of the graph: a rule or a source file."""

  def __init__(self, label, kind, inputs=(), tags=(), testonly=False):
    self.label = label
    self.kind = kind
    self.inputs = list(inputs)
    self.tags = set(tags)
    self.is_test = testonly or kind.endswith('_test')


def parse_graph(xml_text):
  """Returns {label: Target} for the output of bazel query --output=xml."""
  graph = {}
  for element in ElementTree.fromstring(xml_text):
    label = element.get('name')
    if element.tag == 'source-file':
      graph[label] = Target(label, 'source file')
    elif element.tag == 'generated-file':
      graph[label] = Target(
          label, 'generated file', [element.get('generating-rule')]
      )
    elif element.tag == 'rule':
      inputs = [child.get('name') for child in element.iter('rule-input')]
      tags = [
          value.get('value')
          for child in element.findall('list')
          if child.get('name') == 'tags'
          for value in child
      ]
      testonly = any(
          child.get('name') == 'testonly' and child.get('value') == 'true'
          for child in element.findall('boolean')
      )
      graph[label] = Target(label, element.get('class'), inputs, tags, testonly)
  return graph


def is_under(label, place):
  """Whether a label is in the package `place` or below, or matches a re:."""
  if place.startswith('re:'):
    return re.fullmatch(place[3:], label) is not None
  if place.endswith('//'):
    return label.startswith(place)
  return label.startswith((place + ':', place + '/'))


def included_needs(text):
  """Returns what a source file's include lines need, out of INCLUDES."""
  needs = set()
  for path in INCLUDE_LINE.findall(text):
    for pattern, need in INCLUDES.items():
      if pattern.fullmatch(path):
        needs.add(need)
  return needs


class Reach:
  """What each target reaches: labels, and needs of the sources among them."""

  def __init__(self, graph, read_source):
    self._graph = graph
    self._read_source = read_source
    self._known = {}

  def of(self, label):
    """Returns {reached label or need: the step towards it}."""
    if label in self._known:
      return self._known[label]
    self._known[label] = {}  # Bazel's graphs have no cycles.
    reached = {}
    target = self._graph.get(label)
    if target is None:
      return reached
    if target.kind == 'source file' and label.startswith('//'):
      for need in included_needs(self._read_source(label)):
        reached[need] = label
    for step in target.inputs:
      for far in [step] + list(self.of(step)):
        reached.setdefault(far, step)
    self._known[label] = reached
    return reached

  def path(self, label, what):
    """Returns 'a -> b -> what' for something that `label` reaches."""
    steps = [label]
    while steps[-1] != what:
      following = self.of(steps[-1]).get(what)
      if following is None or following in steps:
        break
      steps.append(following)
    if steps[-1] != what:
      steps.append(what)
    return ' -> '.join(steps)


def check(graph, read_source):
  """Checks every rule.

  Args:
    graph: what parse_graph returned.
    read_source: gives the text of a source file by its label.

  Returns:
    A list of lines, one for each violation.
  """
  sys.setrecursionlimit(100000)
  reach = Reach(graph, read_source)
  violations = []
  ours = [
      target
      for target in graph.values()
      if target.label.startswith('//')
      and target.kind not in ('source file', 'generated file')
  ]
  for target in sorted(ours, key=lambda target: target.label):
    label = target.label
    reached = reach.of(label)

    for rule in ONLY:
      hits = [far for far in reached if far == rule.what or (
          rule.what.endswith('//') and far.startswith(rule.what))]
      if hits and not any(is_under(label, user) for user in rule.users):
        violations.append(
            '%s may not reach %s: %s'
            % (label, rule.what, reach.path(label, sorted(hits)[0]))
        )

    for rule in NEVER:
      if not is_under(label, rule.who) or (
          target.is_test and not rule.with_tests
      ):
        continue
      for what in rule.what:
        hits = [far for far in reached if is_under(far, what)]
        if hits:
          violations.append(
              '%s: %s may not reach %s: %s'
              % (label, rule.who, what, reach.path(label, sorted(hits)[0]))
          )

    if target.kind.startswith('cc_'):
      uses_grpc = any(far.startswith(GRPC) for far in reached)
      if uses_grpc != ('no_tsan' in target.tags):
        violations.append(
            '%s %s gRPC but %s the tag no_tsan'
            % (
                label,
                'links' if uses_grpc else 'does not link',
                'lacks' if uses_grpc else 'has',
            )
        )
      if RULES_CC_TAG not in target.tags:
        violations.append('%s: load %s from @rules_cc' % (label, target.kind))
  return violations


# Not of files, as those that load() takes.
LABEL_IN_TEXT = re.compile(r'//[a-z]\w*(?:/\w+)*:\w+(?!\w|\.\w)')


def check_labels(graph, texts):
  """Checks that the targets which documents name exist.

  Args:
    graph: what parse_graph returned.
    texts: {name of a document: its text}.

  Returns:
    A list of lines, one for each label that is no target.
  """
  return [
      '%s names %s, which is no target' % (name, label)
      for name, text in sorted(texts.items())
      for label in sorted(set(LABEL_IN_TEXT.findall(text)))
      if label not in graph
  ]


# What is told of the past may name what is gone.
HISTORY = ('CHANGELOG.md', os.path.join('docs', 'adr', ''))


def read_documents(workspace):
  """{name: text} of the documents that tell how things are now."""
  texts = {}
  for folder, folders, files in os.walk(workspace):
    # Bazel's links are links, which os.walk does not follow.
    folders[:] = [name for name in folders if not name.startswith('.')]
    for name in files:
      path = os.path.relpath(os.path.join(folder, name), workspace)
      if name.endswith('.md') and not path.startswith(HISTORY):
        with open(os.path.join(workspace, path), encoding='utf-8') as file:
          texts[path] = file.read()
  return texts


def main(argv, xml_text):
  if len(argv) != 2:
    print(__doc__, file=sys.stderr)
    return 2
  workspace = argv[1]

  def read_source(label):
    path = os.path.join(workspace, label[2:].replace(':', '/').lstrip('/'))
    if not path.endswith(('.h', '.cc', '.c', '.S')):
      return ''
    with open(path, encoding='utf-8', errors='replace') as file:
      return file.read()

  try:
    graph = parse_graph(xml_text)
  except ElementTree.ParseError as error:
    print('the input is not what bazel query prints: %s' % error,
          file=sys.stderr)
    return 2
  rules = [t for t in graph.values() if t.label.startswith('//')]
  if not rules:
    print('no target of this workspace in the input', file=sys.stderr)
    return 2
  violations = check(graph, read_source) + check_labels(
      graph, read_documents(workspace)
  )
  for violation in violations:
    print(violation)
  print('%d targets, %d violations' % (len(rules), len(violations)))
  return 1 if violations else 0


if __name__ == '__main__':
  sys.exit(main(sys.argv, sys.stdin.read()))
