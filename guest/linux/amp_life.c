// SPDX-License-Identifier: GPL-2.0-only
/*
 * How a bus comes up, and how it goes down. Source: amp-pci-device, 3.
 */
#include <linux/io.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/wait_bit.h>

#include "amp.h"
#include "vmsg_compat.h"

static unsigned int request_timeout_ms = 30000;
module_param(request_timeout_ms, uint, 0444);
MODULE_PARM_DESC(request_timeout_ms,
		 "a request without an answer fails after so many milliseconds (default 30000)");

/*
 * A device that has to join is looked at soon, then less often, and not for
 * ever. One that has joined is looked at in the longest of these intervals.
 */
#define AMP_MAX_LOOK_DELAY	((unsigned long)HZ)
#define AMP_JOIN_TIMEOUT	(300 * HZ)

/* --- Down. --- */

/* wake_up_var() wants the barrier. */
static void amp_end_joining(struct amp_bus *bus)
{
	smp_store_mb(bus->joining, false);
	wake_up_var(&bus->joining);
}

static void amp_take_down_locked(struct amp_bus *bus)
{
	lockdep_assert_held(&bus->rx_lock);
	spin_lock(&bus->tx_lock);
	bus->down = true;
	amp_fifo_detach(&bus->fifo);
	spin_unlock(&bus->tx_lock);
	amp_end_joining(bus);
	amp_bus_end_requests(bus);
}

/**
 * amp_bus_fail() - take a bus down that is of no use
 * @bus: its rx_lock is held; fifo.fault says why
 *
 * A work item tells the log and the devices.
 */
void amp_bus_fail(struct amp_bus *bus)
{
	amp_take_down_locked(bus);
	schedule_work(&bus->down_work);
}

static void amp_down_work(struct work_struct *work)
{
	struct amp_bus *bus = container_of(work, struct amp_bus, down_work);

	dev_err(bus->parent, "%s is down: %s\n", bus->name,
		READ_ONCE(bus->fifo.fault));
	amp_bus_take_down(bus);
}

/**
 * amp_bus_pause() - no message until amp_bus_attach(); requests that wait fail
 * @bus: in any state
 */
void amp_bus_pause(struct amp_bus *bus)
{
	spin_lock_irq(&bus->rx_lock);
	amp_take_down_locked(bus);
	spin_unlock_irq(&bus->rx_lock);
}

/**
 * amp_bus_take_down() - pause for good, and tell the devices
 * @bus: in any state
 */
void amp_bus_take_down(struct amp_bus *bus)
{
	unsigned int number;

	amp_bus_pause(bus);
	for (number = 0; number < AMP_SLOTS; number++) {
		struct vmsg_device *dev = amp_slot_device(&bus->slots[number]);

		if (dev)
			vmsg_device_gone(dev);
		vmsg_device_put(dev);
	}
}

/* --- Joining the device, and watching it. --- */

static void amp_join(struct amp_bus *bus)
{
	int err = -ENODEV;

	spin_lock_irq(&bus->rx_lock);
	if (bus->joining) {
		spin_lock(&bus->tx_lock);
		err = amp_fifo_join(&bus->fifo);
		if (err == -EAGAIN && time_after(jiffies, bus->join_deadline))
			err = amp_fifo_fail(&bus->fifo,
					    "the device does not join");
		bus->down = err != 0;
		spin_unlock(&bus->tx_lock);
	}
	if (err == -EIO)
		amp_bus_fail(bus);
	if (!err) {
		amp_end_joining(bus);
		if (!bus->stopping)
			queue_work(bus->wq, &bus->scan_work);
	}
	spin_unlock_irq(&bus->rx_lock);

	/* The device moves on when it is rung at. */
	if (err == -EAGAIN || (!err && bus->fifo.ops->watch)) {
		unsigned long delay = bus->look_delay;

		writel(1, bus->doorbell);
		bus->look_delay = min(2 * delay, AMP_MAX_LOOK_DELAY);
		schedule_delayed_work(&bus->look_work, delay);
	}
	/* It may have joined first, and rung when nobody listened yet. */
	if (!err)
		amp_bus_thread(bus->irq, bus);
}

/* True when it has to be looked at again. */
static bool amp_watch(struct amp_bus *bus)
{
	bool up;

	spin_lock_irq(&bus->rx_lock);
	if (!bus->down && amp_fifo_watch(&bus->fifo))
		amp_bus_fail(bus);
	up = !bus->down;
	spin_unlock_irq(&bus->rx_lock);
	return up;
}

static void amp_look_work(struct work_struct *work)
{
	struct amp_bus *bus = container_of(to_delayed_work(work),
					   struct amp_bus, look_work);

	if (READ_ONCE(bus->joining))
		amp_join(bus);
	else if (amp_watch(bus))
		schedule_delayed_work(&bus->look_work, AMP_MAX_LOOK_DELAY);
}

/* --- Life. --- */

/**
 * amp_bus_init() - set up a bus that is down
 * @bus: zeroed
 * @parent: the PCI function
 * @index: of the FIFO
 * @window: of the FIFO
 * @doorbell: of the FIFO
 *
 * Return: 0 or -ENOMEM.
 */
int amp_bus_init(struct amp_bus *bus, struct device *parent,
		 unsigned int index, void *window, void __iomem *doorbell)
{
	bus->parent = parent;
	bus->index = index;
	bus->fifo.window = window;
	bus->doorbell = doorbell;
	bus->down = true;
	bus->timeout = msecs_to_jiffies(max(request_timeout_ms, 1U));
	bus->flush_delay = 1;
	/* Answers to the driver before us are to be told from ours. */
	bus->last_token = (u16)get_random_u32();
	snprintf(bus->name, sizeof(bus->name), "fifo%u", index);
	spin_lock_init(&bus->rx_lock);
	spin_lock_init(&bus->tx_lock);
	INIT_LIST_HEAD(&bus->waiting);
	timer_setup(&bus->flush_timer, amp_flush_expired, 0);
	INIT_DELAYED_WORK(&bus->look_work, amp_look_work);
	INIT_WORK(&bus->scan_work, amp_scan_work);
	INIT_WORK(&bus->down_work, amp_down_work);
	amp_slots_init(bus);
	/* Work here waits for drivers and for the device. */
	bus->wq = alloc_workqueue("vmsg-%s-%s", WQ_UNBOUND | WQ_FREEZABLE, 0,
				  dev_name(parent), bus->name);
	return bus->wq ? 0 : -ENOMEM;
}

/**
 * amp_bus_attach() - look at the FIFO, and begin to use it
 * @bus: down, without devices in use; amp_bus_start() comes next
 *
 * Return: 0, or -EIO: the FIFO is of no use, which was logged, and the bus
 * stays down.
 */
int amp_bus_attach(struct amp_bus *bus)
{
	int err;

	/* It may have been left from before a sleep. */
	cancel_delayed_work_sync(&bus->look_work);
	spin_lock_irq(&bus->rx_lock);
	spin_lock(&bus->tx_lock);
	err = amp_fifo_attach(&bus->fifo);
	spin_unlock(&bus->tx_lock);
	bus->joining = !err;
	spin_unlock_irq(&bus->rx_lock);
	if (err)
		dev_err(bus->parent, "%s can't be used: %s\n", bus->name,
			bus->fifo.fault);
	return err;
}

/**
 * amp_bus_start() - join the device, and enumerate what is there
 * @bus: was attached
 *
 * Waits for nothing: the bus comes up here, or in a work item.
 */
void amp_bus_start(struct amp_bus *bus)
{
	bus->look_delay = 1;
	bus->join_deadline = jiffies + AMP_JOIN_TIMEOUT;
	amp_join(bus);
}

/**
 * amp_bus_wait() - wait until the device has joined
 * @bus: was started
 *
 * Return: when the bus is up, or is down for good.
 */
void amp_bus_wait(struct amp_bus *bus)
{
	if (!wait_var_event_timeout(&bus->joining, !READ_ONCE(bus->joining),
				    bus->timeout))
		amp_bus_take_down(bus);
}

/**
 * amp_bus_destroy() - undo amp_bus_init()
 * @bus: after amp_slots_stop(), and its interrupt was freed; or never attached
 */
void amp_bus_destroy(struct amp_bus *bus)
{
	if (!bus->wq)
		return;
	amp_bus_take_down(bus);
	cancel_work_sync(&bus->down_work);
	cancel_delayed_work_sync(&bus->look_work);
	timer_delete_sync(&bus->flush_timer);
	destroy_workqueue(bus->wq);
	bus->wq = NULL;
}
