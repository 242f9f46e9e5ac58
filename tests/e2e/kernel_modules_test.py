"""Tests of kernel_modules.py; run by scripts/test."""

import lzma
import os
import tempfile
import unittest

import kernel_modules

_DEP = """\
kernel/arch/x86/kvm/kvm-amd.ko: kernel/arch/x86/kvm/kvm.ko kernel/irqbypass.ko
kernel/arch/x86/kvm/kvm.ko: kernel/irqbypass.ko
kernel/irqbypass.ko:
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
"""


class InsertionOrderTest(unittest.TestCase):

  def order(self, text, *names):
    return [
        kernel_modules.module_name(path)
        for path in kernel_modules.insertion_order(
            kernel_modules.parse_dependencies(text), names)
    ]

  def test_puts_a_module_after_all_that_it_needs(self):
    self.assertEqual(self.order(_DEP, 'kvm-amd'),
                     ['irqbypass', 'kvm', 'kvm_amd'])

  def test_takes_each_module_once(self):
    self.assertEqual(self.order(_DEP, 'virtio', 'virtio_ring', 'virtio'),
                     ['virtio_ring', 'virtio'])

  def test_takes_dash_and_underscore_for_the_same(self):
    self.assertEqual(self.order(_DEP, 'virtio-ring'), ['virtio_ring'])
    self.assertEqual(self.order(_DEP, 'kvm_amd')[-1], 'kvm_amd')

  def test_names_a_module_that_does_not_exist(self):
    with self.assertRaisesRegex(ValueError, 'no module virtio_net'):
      self.order(_DEP, 'virtio_net')

  def test_names_a_dependency_that_does_not_exist(self):
    with self.assertRaisesRegex(ValueError, 'b.ko is needed'):
      self.order('a.ko: b.ko\n', 'a')

  def test_refuses_a_ring(self):
    with self.assertRaisesRegex(ValueError, 'needs itself'):
      self.order('a.ko: b.ko\nb.ko: a.ko\n', 'a')


class LoadTest(unittest.TestCase):

  def test_reads_modules_packed_or_not_and_leaves_out_builtin_ones(self):
    with tempfile.TemporaryDirectory() as folder:
      def write(name, content):
        with open(os.path.join(folder, name), 'wb') as file:
          file.write(content)

      write('modules.dep', b'a.ko.xz: b-c.ko\nb-c.ko:\n')
      write('modules.builtin', b'kernel/drivers/char/hw_random/rng-core.ko\n')
      write('a.ko.xz', lzma.compress(b'module a'))
      write('b-c.ko', b'module b')
      self.assertEqual(kernel_modules.load(folder, ['rng_core', 'a']),
                       [('b_c', b'module b'), ('a', b'module a')])


if __name__ == '__main__':
  unittest.main()
