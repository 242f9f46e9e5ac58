// SPDX-License-Identifier: GPL-2.0-only
/*
 * The devices of a bus: enumeration, and what comes and goes at run time.
 * Source: virtio-msg-messages, 5.1 and 5.3; amp-pci-device, 4.
 */
#include <linux/bits.h>

#include "amp.h"

/**
 * amp_slot_event() - EVENT_DEVICE has arrived, or a device was found
 * @bus: its rx_lock is held
 * @number: any
 * @state: VMSG_DEVICE_READY, VMSG_DEVICE_REMOVED, or not known to us
 *
 * Events of one slot may come faster than the slot is done with them. What
 * counts then is whether the last device is there, and that one before it is
 * not.
 */
void amp_slot_event(struct amp_bus *bus, unsigned int number, u16 state)
{
	struct amp_slot *slot;

	lockdep_assert_held(&bus->rx_lock);
	if (number >= AMP_SLOTS || bus->stopping)
		return;
	slot = &bus->slots[number];
	switch (state) {
	case VMSG_DEVICE_READY:
		slot->ready = true;
		break;
	case VMSG_DEVICE_REMOVED:
		slot->ready = false;
		slot->removed = true;
		break;
	default:
		return;
	}
	queue_work(bus->wq, &slot->work);
}

/**
 * amp_slot_device() - the device in a slot
 * @slot: the slot
 *
 * Return: the device, with a reference for the caller, or NULL.
 */
struct vmsg_device *amp_slot_device(struct amp_slot *slot)
{
	struct vmsg_device *dev;

	spin_lock_irq(&slot->bus->rx_lock);
	dev = slot->dev;
	if (dev)
		vmsg_device_get(dev);
	spin_unlock_irq(&slot->bus->rx_lock);
	return dev;
}

static void amp_slot_set(struct amp_slot *slot, struct vmsg_device *dev)
{
	spin_lock_irq(&slot->bus->rx_lock);
	slot->dev = dev;
	spin_unlock_irq(&slot->bus->rx_lock);
}

/*
 * A device that was asked for in vain may be answered for later, to nobody; and
 * the host, which has answered then, owes no EVENT_DEVICE any more. Who calls this
 * has waited for a whole timeout, which is pace enough.
 */
static void amp_scan_again(struct amp_bus *bus)
{
	spin_lock_irq(&bus->rx_lock);
	if (!bus->stopping && !bus->down)
		queue_work(bus->wq, &bus->scan_work);
	spin_unlock_irq(&bus->rx_lock);
}

static void amp_slot_add(struct amp_slot *slot)
{
	struct amp_bus *bus = slot->bus;
	struct vmsg_device *dev;
	int err;

	dev = vmsg_device_create(bus->parent, &amp_bus_ops, bus, bus->name,
				 slot->number);
	if (!dev)
		return;
	/* Events come as soon as its driver has started it. */
	amp_slot_set(slot, dev);
	err = vmsg_device_register(dev);
	if (!err)
		return;
	amp_slot_set(slot, NULL);
	vmsg_device_put(dev);
	/* It has left again: no news. */
	if (err != -ENODEV)
		dev_err_ratelimited(bus->parent, "%s device %u: %d\n",
				    bus->name, slot->number, err);
	if (err == -ETIMEDOUT)
		amp_scan_again(bus);
}

/* Events are passed on until the driver has let go of the device. */
static void amp_slot_remove(struct amp_slot *slot)
{
	struct vmsg_device *dev = slot->dev;

	if (!dev)
		return;
	vmsg_device_unregister(dev);
	amp_slot_set(slot, NULL);
	vmsg_device_put(dev);
	slot->frozen = false;
}

static void amp_slot_work(struct work_struct *work)
{
	struct amp_slot *slot = container_of(work, struct amp_slot, work);
	bool removed, ready;

	spin_lock_irq(&slot->bus->rx_lock);
	removed = slot->removed;
	ready = slot->ready && !slot->bus->stopping;
	slot->removed = false;
	slot->ready = false;
	spin_unlock_irq(&slot->bus->rx_lock);

	if (removed)
		amp_slot_remove(slot);
	/* Devices are announced twice when they are enumerated as well. */
	if (ready && !slot->dev)
		amp_slot_add(slot);
}

/**
 * amp_slots_init() - no device is there
 * @bus: being set up
 */
void amp_slots_init(struct amp_bus *bus)
{
	unsigned int number;

	for (number = 0; number < AMP_SLOTS; number++) {
		struct amp_slot *slot = &bus->slots[number];

		slot->bus = bus;
		slot->number = number;
		INIT_WORK(&slot->work, amp_slot_work);
	}
}

/**
 * amp_slots_stop() - unregister devices, and take no new ones
 * @bus: in any state
 * @while_up: leave devices that no message can reset, since the bus is down
 */
void amp_slots_stop(struct amp_bus *bus, bool while_up)
{
	unsigned int number;

	spin_lock_irq(&bus->rx_lock);
	bus->stopping = true;
	spin_unlock_irq(&bus->rx_lock);
	cancel_work_sync(&bus->scan_work);
	for (number = 0; number < AMP_SLOTS; number++) {
		if (while_up && READ_ONCE(bus->down))
			return;
		cancel_work_sync(&bus->slots[number].work);
		amp_slot_remove(&bus->slots[number]);
	}
}

/**
 * amp_slots_shutdown() - reset all devices under their drivers
 * @bus: up; taken down next
 *
 * Drivers stay bound. Waits for nothing but the device, and not for long: see
 * vmsg_patience().
 */
void amp_slots_shutdown(struct amp_bus *bus)
{
	unsigned int number;

	spin_lock_irq(&bus->rx_lock);
	bus->stopping = true;
	spin_unlock_irq(&bus->rx_lock);
	for (number = 0; number < AMP_SLOTS; number++) {
		struct vmsg_device *dev = amp_slot_device(&bus->slots[number]);

		if (dev)
			vmsg_device_shutdown(dev);
		vmsg_device_put(dev);
	}
}

/* --- Enumeration. --- */

/* One window. The bitmap has bit 0 for the first number of the window. */
static int amp_get_devices(struct amp_bus *bus, u16 offset, u32 *bitmap,
			   u16 *next)
{
	struct vmsg_message request, response;
	u16 wanted = AMP_SLOTS - offset;
	unsigned int count, i;
	int err;

	vmsg_prepare(&request, VMSG_TYPE_BUS, VMSG_BUS_GET_DEVICES, 0,
		     sizeof(request.get_devices));
	request.get_devices.offset = cpu_to_le16(offset);
	request.get_devices.count = cpu_to_le16(wanted);
	err = amp_bus_call(bus, &request, &response);
	if (err)
		return err;
	if (vmsg_payload(&response) < offsetof(struct vmsg_devices, bitmap))
		return -EPROTO;
	count = le16_to_cpu(response.devices.count);
	if (le16_to_cpu(response.devices.offset) != offset ||
	    count > wanted || count % 8 ||
	    vmsg_payload(&response) <
		    offsetof(struct vmsg_devices, bitmap) + count / 8)
		return -EPROTO;
	*bitmap = 0;
	for (i = 0; i < count / 8; i++)
		*bitmap |= (u32)response.devices.bitmap[i] << 8 * i;
	*next = le16_to_cpu(response.devices.next_offset);
	return 0;
}

/**
 * amp_scan_work() - find the devices that are there
 * @work: of a bus that is up
 *
 * They are registered by the work of their slots. Again and again, while the
 * device does not answer.
 */
void amp_scan_work(struct work_struct *work)
{
	struct amp_bus *bus = container_of(work, struct amp_bus, scan_work);
	u16 offset = 0, next;
	unsigned int number;
	u32 bitmap;
	int err;

	do {
		err = amp_get_devices(bus, offset, &bitmap, &next);
		if (err) {
			if (err != -ENODEV)
				dev_err_ratelimited(bus->parent,
						    "%s: enumeration: %d\n",
						    bus->name, err);
			if (err == -ETIMEDOUT)
				amp_scan_again(bus);
			return;
		}
		spin_lock_irq(&bus->rx_lock);
		for (number = offset; number < AMP_SLOTS; number++)
			if (bitmap & BIT(number - offset))
				amp_slot_event(bus, number, VMSG_DEVICE_READY);
		spin_unlock_irq(&bus->rx_lock);
		/* A window that doesn't go up, or isn't aligned, is no next. */
		if (next <= offset || next % 8)
			break;
		offset = next;
	} while (offset < AMP_SLOTS);
}

/* --- Sleep. The workqueue is frozen, so slots stay as they are. --- */

#ifdef CONFIG_PM_SLEEP
/**
 * amp_slots_freeze() - stop the devices that still go on
 * @bus: in any state
 * @while_up: leave devices that no message can reset, since the bus is down
 *
 * Return: 0, or the error of a device, which goes on. Those that were stopped
 * are for amp_slots_restore() in either case.
 */
int amp_slots_freeze(struct amp_bus *bus, bool while_up)
{
	unsigned int number;

	for (number = 0; number < AMP_SLOTS; number++) {
		struct amp_slot *slot = &bus->slots[number];
		int err;

		if (while_up && READ_ONCE(bus->down))
			break;
		if (!slot->dev || slot->frozen)
			continue;
		err = vmsg_device_freeze(slot->dev);
		if (err)
			return err;
		slot->frozen = true;
	}
	return 0;
}

/**
 * amp_slots_restore() - start the devices again that were stopped
 * @bus: in any state
 *
 * A device that isn't what it was stays, of no use: drivers like virtio-rng
 * (6.1) can't be removed between their freeze and their restore.
 */
void amp_slots_restore(struct amp_bus *bus)
{
	unsigned int number;

	for (number = 0; number < AMP_SLOTS; number++) {
		struct amp_slot *slot = &bus->slots[number];
		int err;

		if (!slot->frozen)
			continue;
		slot->frozen = false;
		err = vmsg_device_restore(slot->dev);
		if (!err)
			continue;
		dev_err(bus->parent, "%s device %u: does not wake up: %d\n",
			bus->name, number, err);
		vmsg_device_gone(slot->dev);
	}
	/* What came meanwhile. */
	queue_work(bus->wq, &bus->scan_work);
}
#endif
