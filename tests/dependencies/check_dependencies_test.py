"""Plants violations and expects check_dependencies to find them."""

import contextlib
import io
import os
import tempfile
import unittest

import check_dependencies as deps

CC_TAG = deps.RULES_CC_TAG


def rule(label, inputs=(), kind='cc_library', tags=(CC_TAG,), testonly=False):
  return deps.Target(label, kind, inputs, tags, testonly)


def source(label):
  return deps.Target(label, 'source file')


def check(*targets, sources=None):
  graph = {target.label: target for target in targets}
  return deps.check(graph, lambda label: (sources or {}).get(label, ''))


class CheckTest(unittest.TestCase):

  def assert_one(self, violations, *parts):
    self.assertEqual(len(violations), 1, violations)
    for part in parts:
      self.assertIn(part, violations[0])

  def test_clean_graph_passes(self):
    self.assertEqual(
        check(
            rule('//vmm/base:check'),
            rule('//devices/virtio:rng', ['//vmm/base:check']),
            rule('//vmm/kvm:vm', ['//vmm/kvm:vm.cc']),
            source('//vmm/kvm:vm.cc'),
            sources={'//vmm/kvm:vm.cc': '#include <linux/kvm.h>\n'},
        ),
        [],
    )

  def test_label_in_a_document_that_is_no_target(self):
    graph = {'//vmm/base:check': rule('//vmm/base:check')}
    text = ('Held by //vmm/base:check. And `//vmm/base:chek`, //vmm/base, '
            '//vmm/base:deps.bzl')
    self.assert_one(
        deps.check_labels(graph, {'docs/a.md': text}),
        'docs/a.md',
        '//vmm/base:chek,',
    )

  def test_documents_are_those_of_all_folders_but_history(self):
    with tempfile.TemporaryDirectory() as workspace:
      for path in ('README.md', 'CHANGELOG.md', 'docs/a.md', 'docs/adr/b.md',
                   'vmm/base/README.md', '.git/c.md', 'vmm/base/d.txt'):
        path = os.path.join(workspace, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as file:
          file.write('text')
      self.assertEqual(
          deps.read_documents(workspace),
          {'README.md': 'text', 'docs/a.md': 'text',
           'vmm/base/README.md': 'text'},
      )

  def test_vmm_reaches_a_device_through_another_target(self):
    self.assert_one(
        check(
            rule('//vmm/bus:bus', ['//helper:h']),
            rule('//helper:h', ['//devices/virtio:rng']),
            rule('//devices/virtio:rng'),
        ),
        '//vmm/bus:bus -> //helper:h -> //devices/virtio:rng',
    )

  def test_even_a_test_of_vmm_may_not_reach_devices(self):
    self.assert_one(
        check(
            rule('//vmm/bus:bus_test', ['//devices/x:x'], kind='cc_test'),
            rule('//devices/x:x'),
        ),
        '//vmm/bus:bus_test',
    )

  def test_kvm_header_outside_vmm_kvm(self):
    self.assert_one(
        check(
            rule('//vmm/bus:bus', ['//vmm/bus:bus.cc']),
            source('//vmm/bus:bus.cc'),
            sources={'//vmm/bus:bus.cc': 'int x;\n# include <linux/kvm.h>\n'},
        ),
        '//vmm/bus:bus may not reach linux/kvm.h',
    )

  def test_library_that_depends_on_vmm_kvm(self):
    self.assert_one(
        check(
            rule('//vmm/kvm:vm', ['//vmm/kvm:vm.cc']),
            source('//vmm/kvm:vm.cc'),
            rule('//vmm/boot:boot', ['//vmm/kvm:vm']),
            sources={'//vmm/kvm:vm.cc': '#include "linux/kvm.h"'},
        ),
        '//vmm/boot:boot may not reach linux/kvm.h',
        '//vmm/boot:boot -> //vmm/kvm:vm',
    )

  def test_grpc_in_another_target_of_vmm_control(self):
    grpc = deps.GRPC + ':grpc++'
    tags = [CC_TAG, 'no_tsan']
    self.assert_one(
        check(
            rule('//vmm/control:hotplug_service', [grpc], tags=tags),
            rule('//vmm/control:control_server_test', [grpc], tags=tags),
            rule('//vmm/control:device_manager', [grpc], tags=tags),
            rule(grpc),
        ),
        '//vmm/control:device_manager may not reach',
    )

  def test_grpc_by_include_alone(self):
    self.assert_one(
        check(
            rule(
                '//devices/a:a',
                ['//devices/a:a.h'],
                tags=[CC_TAG, 'no_tsan'],
            ),
            source('//devices/a:a.h'),
            sources={'//devices/a:a.h': '#include "grpcpp/server.h"'},
        ),
        '//devices/a:a may not reach ' + deps.GRPC,
    )

  def test_protobuf_in_factories_only(self):
    protobuf = deps.PROTOBUF + ':protobuf'
    self.assert_one(
        check(
            rule('//devices/factories:rng_factory', [protobuf]),
            rule('//devices/virtio:other', [protobuf]),
            rule(protobuf),
        ),
        '//devices/virtio:other may not reach',
    )

  def test_virtio_device_that_knows_messages(self):
    self.assert_one(
        check(
            rule('//devices/virtio/rng:device', ['//devices/virtio_msg:bus']),
            rule('//devices/virtio_msg:bus'),
        ),
        '//devices/virtio_msg:bus',
    )

  def test_tests_of_a_virtio_device_may_use_everything(self):
    self.assertEqual(
        check(
            rule(
                '//devices/virtio/rng:t',
                ['//devices/virtio_msg:bus'],
                kind='cc_test',
            ),
            rule(
                '//devices/virtio/rng:fake',
                ['//devices/virtio_msg:bus'],
                testonly=True,
            ),
            rule('//devices/virtio_msg:bus'),
        ),
        [],
    )

  def test_messages_that_know_pci(self):
    self.assert_one(
        check(
            rule('//devices/virtio_msg:bus', ['//vmm/pci:pci_device']),
            rule('//vmm/pci:pci_device'),
        ),
        '//devices/virtio_msg:bus',
    )

  def test_guest_driver_that_links_a_library(self):
    absl = '@com_google_absl//absl/status:status'
    self.assert_one(
        check(rule('//guest/driver:fifo', [absl]), rule(absl)),
        '//guest/driver:fifo -> ' + absl,
    )

  def test_grpc_without_no_tsan(self):
    grpc = deps.GRPC + ':grpc++'
    self.assert_one(
        check(rule('//tests/a:t', [grpc], kind='cc_test'), rule(grpc)),
        'lacks the tag no_tsan',
    )

  def test_no_tsan_without_grpc(self):
    self.assert_one(
        check(rule('//tests/a:t', kind='cc_test', tags=[CC_TAG, 'no_tsan'])),
        'has the tag no_tsan',
    )

  def test_native_cc_rule(self):
    self.assert_one(
        check(rule('//vmm/base:check', tags=[])),
        'load cc_library from @rules_cc',
    )


# What `bazel query --output=xml` prints, cut down to one violation.
QUERY_XML = """<?xml version="1.1" encoding="UTF-8" standalone="no"?>
<query version="2">
    <rule class="cc_library" location="x" name="//vmm/bus:bus">
        <string name="name" value="bus"/>
        <list name="tags">
            <string value="__CC_RULES_MIGRATION_DO_NOT_USE_WILL_BREAK__"/>
        </list>
        <list name="srcs"><label value="//vmm/bus:bus.cc"/></list>
        <rule-input name="//vmm/bus:bus.cc"/>
    </rule>
    <source-file location="x" name="//vmm/bus:bus.cc"/>
</query>"""


class MainTest(unittest.TestCase):

  def run_main(self, include):
    with tempfile.TemporaryDirectory() as workspace:
      os.makedirs(os.path.join(workspace, 'vmm/bus'))
      with open(os.path.join(workspace, 'vmm/bus/bus.cc'), 'w') as file:
        file.write('#include <%s>\n' % include)
      output = io.StringIO()
      with contextlib.redirect_stdout(output):
        code = deps.main(['check', workspace], QUERY_XML)
      return code, output.getvalue()

  def test_exits_1_and_prints_the_violation(self):
    code, output = self.run_main('linux/kvm.h')
    self.assertEqual(code, 1)
    self.assertIn('//vmm/bus:bus may not reach linux/kvm.h', output)
    self.assertIn('2 targets, 1 violations', output)

  def test_exits_0_without_violation(self):
    code, output = self.run_main('vector')
    self.assertEqual(code, 0)
    self.assertIn('2 targets, 0 violations', output)

  def test_empty_input_is_an_error(self):
    with contextlib.redirect_stderr(io.StringIO()):
      self.assertEqual(deps.main(['check', '.'], '<query version="2"/>'), 2)


if __name__ == '__main__':
  unittest.main()
