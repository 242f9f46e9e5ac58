// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio_msg_amp_pci: the PCI function virtio-msg-amp-pci.
 * Source: amp-pci-device, 1 and 2.
 *
 * When bus mastering goes off, the device forgets its driver: virtio devices
 * are reset and do no DMA. So it goes off before anything else when we begin,
 * for the sake of a driver that left without a word, and when we end: then after
 * the devices that can be reset by a message, which may have work to end, and
 * before the drivers of all others give their memory back.
 */
#include <linux/io.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "amp.h"

#define AMP_PCI_VENDOR_ID	0x10ee
#define AMP_PCI_DEVICE_ID	0x9039

#define AMP_BAR_REGISTERS	0
#define AMP_BAR_FIFOS		1

#define AMP_REG_VERSION		0x00
#define AMP_VERSION		1
#define AMP_REG_NOTIFY(n)	(0x20 + 4 * (n))

#define AMP_MAX_FIFOS		8

struct amp_function {
	struct pci_dev *pdev;
	bool enabled;
	bool regions;
	bool vectors;
	void __iomem *registers;
	void *windows;
	unsigned int num_buses;
	struct amp_bus *buses;
};

static int amp_map(struct amp_function *function)
{
	struct pci_dev *pdev = function->pdev;
	u32 version;
	int err;

	err = pci_enable_device(pdev);
	if (err)
		return err;
	function->enabled = true;
	pci_clear_master(pdev);
	err = pci_request_regions(pdev, KBUILD_MODNAME);
	if (err)
		return err;
	function->regions = true;
	err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		return err;

	function->registers = pci_ioremap_bar(pdev, AMP_BAR_REGISTERS);
	if (!function->registers)
		return -ENOMEM;
	version = readl(function->registers + AMP_REG_VERSION);
	if (version != AMP_VERSION) {
		dev_err(&pdev->dev, "version %#x is not known\n", version);
		return -ENODEV;
	}
	/* It is memory, and used with the barriers of memory. */
	function->windows = memremap(pci_resource_start(pdev, AMP_BAR_FIFOS),
				     pci_resource_len(pdev, AMP_BAR_FIFOS),
				     MEMREMAP_WB);
	return function->windows ? 0 : -ENOMEM;
}

/* As many FIFOs as there are vectors: each has its own. */
static int amp_count_fifos(struct amp_function *function)
{
	struct pci_dev *pdev = function->pdev;
	resource_size_t registers, windows;
	int num = pci_msix_vec_count(pdev);

	if (num <= 0)
		return num ?: -ENODEV;
	registers = pci_resource_len(pdev, AMP_BAR_REGISTERS);
	windows = pci_resource_len(pdev, AMP_BAR_FIFOS) / AMP_WINDOW_BYTES;
	num = min(num, AMP_MAX_FIFOS);
	if (num > windows || AMP_REG_NOTIFY(num) > registers) {
		dev_err(&pdev->dev, "BARs too small for %d FIFOs\n", num);
		return -EINVAL;
	}
	num = pci_alloc_irq_vectors(pdev, 1, num, PCI_IRQ_MSIX);
	if (num > 0)
		function->vectors = true;
	return num;
}

static int amp_make_bus(struct amp_function *function, unsigned int n)
{
	struct amp_bus *bus = &function->buses[n];
	struct pci_dev *pdev = function->pdev;
	int err;

	err = amp_bus_init(bus, &pdev->dev, n,
			   function->windows + n * AMP_WINDOW_BYTES,
			   function->registers + AMP_REG_NOTIFY(n));
	if (err)
		return err;
	bus->irq_name = kasprintf(GFP_KERNEL, "virtio-msg-%s-%s",
				  pci_name(pdev), bus->name);
	if (!bus->irq_name)
		return -ENOMEM;
	bus->irq = pci_irq_vector(pdev, n);
	err = request_threaded_irq(bus->irq, amp_bus_interrupt,
				   amp_bus_thread, 0, bus->irq_name, bus);
	bus->irq_requested = !err;
	return err;
}

static int amp_make_buses(struct amp_function *function)
{
	int num = amp_count_fifos(function);
	int err;

	if (num < 0)
		return num;
	function->buses = kcalloc(num, sizeof(*function->buses), GFP_KERNEL);
	if (!function->buses)
		return -ENOMEM;
	while (function->num_buses < num) {
		err = amp_make_bus(function, function->num_buses++);
		if (err)
			return err;
	}
	return 0;
}

/* A FIFO that can't be used is left alone. */
static int amp_attach(struct amp_function *function)
{
	unsigned int n, attached = 0;

	for (n = 0; n < function->num_buses; n++)
		if (!amp_bus_attach(&function->buses[n]))
			attached++;
	return attached ? 0 : -EIO;
}

/* Bus mastering first: the device has no driver without it. */
static void amp_start(struct amp_function *function)
{
	unsigned int n;

	pci_set_master(function->pdev);
	for (n = 0; n < function->num_buses; n++)
		amp_bus_start(&function->buses[n]);
}

/* No message and no DMA until amp_start(). */
static void amp_stop(struct amp_function *function)
{
	unsigned int n;

	/* Before the device starts anew, which is no news for a bus that is down. */
	for (n = 0; n < function->num_buses; n++)
		amp_bus_pause(&function->buses[n]);
	if (function->enabled)
		pci_clear_master(function->pdev);
}

/* Devices are unregistered. Undoes what has been done of amp_probe(). */
static void amp_free(struct amp_function *function)
{
	struct pci_dev *pdev = function->pdev;
	unsigned int n;

	amp_stop(function);
	for (n = 0; n < function->num_buses; n++) {
		struct amp_bus *bus = &function->buses[n];

		if (bus->irq_requested)
			free_irq(bus->irq, bus);
		amp_bus_destroy(bus);
		kfree(bus->irq_name);
	}
	kfree(function->buses);
	if (function->vectors)
		pci_free_irq_vectors(pdev);
	if (function->windows)
		memunmap(function->windows);
	if (function->registers)
		iounmap(function->registers);
	if (function->regions)
		pci_release_regions(pdev);
	if (function->enabled)
		pci_disable_device(pdev);
	kfree(function);
}

static int amp_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct amp_function *function = kzalloc(sizeof(*function), GFP_KERNEL);
	int err;

	if (!function)
		return -ENOMEM;
	function->pdev = pdev;
	err = amp_map(function);
	if (!err)
		err = amp_make_buses(function);
	if (!err)
		err = amp_attach(function);
	if (err) {
		amp_free(function);
		return err;
	}
	pci_set_drvdata(pdev, function);
	amp_start(function);
	return 0;
}

static void amp_remove(struct pci_dev *pdev)
{
	struct amp_function *function = pci_get_drvdata(pdev);
	bool present = pci_device_is_present(pdev);
	unsigned int n;

	/* Pulled out: there is nobody to wait for. */
	for (n = 0; n < function->num_buses && !present; n++)
		amp_bus_take_down(&function->buses[n]);
	for (n = 0; n < function->num_buses; n++)
		amp_slots_stop(&function->buses[n], true);
	amp_stop(function);
	for (n = 0; n < function->num_buses; n++)
		amp_slots_stop(&function->buses[n], false);
	amp_free(function);
}

/* Reboot, power off, kexec. Drivers and devices stay registered. */
static void amp_shutdown(struct pci_dev *pdev)
{
	struct amp_function *function = pci_get_drvdata(pdev);
	unsigned int n;

	for (n = 0; n < function->num_buses; n++) {
		amp_slots_shutdown(&function->buses[n]);
		amp_bus_take_down(&function->buses[n]);
	}
	pci_clear_master(pdev);
}

#ifdef CONFIG_PM_SLEEP
static int amp_freeze(struct amp_function *function, bool while_up)
{
	unsigned int n;
	int err = 0;

	for (n = 0; n < function->num_buses && !err; n++)
		err = amp_slots_freeze(&function->buses[n], while_up);
	return err;
}

static void amp_wake(struct amp_function *function)
{
	unsigned int n;

	for (n = 0; n < function->num_buses; n++)
		amp_slots_restore(&function->buses[n]);
}

static int amp_resume(struct device *dev)
{
	struct amp_function *function = dev_get_drvdata(dev);
	int err = amp_attach(function);
	unsigned int n;

	if (err)
		return err;
	amp_start(function);
	for (n = 0; n < function->num_buses; n++)
		amp_bus_wait(&function->buses[n]);
	amp_wake(function);
	return 0;
}

static int amp_suspend(struct device *dev)
{
	struct amp_function *function = dev_get_drvdata(dev);
	int err = amp_freeze(function, true);

	if (err) {
		amp_wake(function);
		return err;
	}
	amp_stop(function);
	err = amp_freeze(function, false);
	if (err)
		amp_resume(dev);
	return err;
}
#endif

static SIMPLE_DEV_PM_OPS(amp_pm_ops, amp_suspend, amp_resume);

static const struct pci_device_id amp_ids[] = {
	{ PCI_DEVICE(AMP_PCI_VENDOR_ID, AMP_PCI_DEVICE_ID) },
	{ }
};
MODULE_DEVICE_TABLE(pci, amp_ids);

static struct pci_driver amp_driver = {
	.name = KBUILD_MODNAME,
	.id_table = amp_ids,
	.probe = amp_probe,
	.remove = amp_remove,
	.shutdown = amp_shutdown,
	.driver.pm = &amp_pm_ops,
};
module_pci_driver(amp_driver);

MODULE_DESCRIPTION("virtio-msg-amp-pci: virtio messages over shared memory behind a PCI function");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
