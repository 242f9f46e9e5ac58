/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Inside of virtio_msg_amp_pci: one function, its FIFOs, a message bus on each
 * FIFO, and up to 32 devices on each bus.
 */
#ifndef VMSG_AMP_H
#define VMSG_AMP_H

#include <linux/interrupt.h>
#include <linux/list.h>
#include <linux/pci.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/workqueue.h>

#include "amp_fifo.h"
#include "virtio_msg.h"

/* Source: amp-pci-device, 4. */
#define AMP_SLOTS		32

struct amp_bus;

/**
 * struct amp_slot - a device number
 * @bus: that it is of
 * @number: the device number
 * @work: acts on @removed and @ready. There is one for each slot, so that a
 *	driver that takes its time holds up no other slot; what happens to one
 *	slot happens in order
 *
 * Under the bus's rx_lock:
 * @removed: the device that was there is being removed
 * @ready: there is a device, which came after the removed one
 * @dev: the device here; events are passed to it. Written by @work alone, or
 *	when that can't run any more
 *
 * @frozen: @dev is, for a sleep; @work does not run then
 */
struct amp_slot {
	struct amp_bus *bus;
	unsigned int number;
	struct work_struct work;
	bool removed;
	bool ready;
	struct vmsg_device *dev;
	bool frozen;
};

/* A PING that the device sent, and that found no room for its answer. */
struct amp_ping {
	__le16 token;
	__le32 data;
};

#define AMP_MAX_PINGS	4

/**
 * struct amp_bus - a FIFO and the bus on it
 *
 * @parent: the PCI function
 * @index: of the FIFO
 * @name: "fifo0"
 * @irq_name: as /proc/interrupts shows it
 * @irq: the FIFO's MSI-X vector
 * @irq_requested: it has been requested
 * @doorbell: register NOTIFYn
 * @wq: runs the work that waits for drivers and devices: slots, enumeration
 * @timeout: of a request, in jiffies
 *
 * @rx_lock: what comes from the device is taken and handled under it, with
 *	interrupts disabled, virtqueue callbacks included: in order, and one
 *	at a time. Outermost. Protects the next group, and slots
 * @waiting: requests that have no answer, struct amp_request
 * @last_token: of a request
 * @pings: owed answers
 * @num_pings: so many
 *
 * @tx_lock: taken inside rx_lock, and in any context
 * @fifo: its device queue is used under rx_lock, its driver queue under
 *	tx_lock, all else under both
 *
 * @down: nothing is sent or received; written under both locks
 * @joining: down, and waiting for the device to join; under rx_lock
 * @stopping: slots take no new devices; under rx_lock
 *
 * @flush: slots that want vmsg_device_flush()
 * @flush_timer: does it when the queue was full, and answers PINGs
 * @flush_delay: until its next run, in jiffies
 * @look_work: looks at a FIFO with a handshake: whether the device has joined,
 *	and after that, whether it has left
 * @look_delay: until its next run, in jiffies
 * @join_deadline: the device has to join until then, in jiffies
 * @scan_work: enumerates the bus
 * @down_work: tells the devices that the bus went down
 * @slots: by device number
 */
struct amp_bus {
	struct device *parent;
	unsigned int index;
	char name[8];
	char *irq_name;
	int irq;
	bool irq_requested;
	void __iomem *doorbell;
	struct workqueue_struct *wq;
	unsigned long timeout;

	spinlock_t rx_lock;
	struct list_head waiting;
	u16 last_token;
	struct amp_ping pings[AMP_MAX_PINGS];
	unsigned int num_pings;

	spinlock_t tx_lock;
	struct amp_fifo fifo;

	bool down;
	bool joining;
	bool stopping;

	unsigned long flush;
	struct timer_list flush_timer;
	unsigned long flush_delay;
	struct delayed_work look_work;
	unsigned long look_delay;
	unsigned long join_deadline;
	struct work_struct scan_work;
	struct work_struct down_work;

	struct amp_slot slots[AMP_SLOTS];
};

/* amp_life.c */
int amp_bus_init(struct amp_bus *bus, struct device *parent,
		 unsigned int index, void *window, void __iomem *doorbell);
void amp_bus_destroy(struct amp_bus *bus);
int amp_bus_attach(struct amp_bus *bus);
void amp_bus_start(struct amp_bus *bus);
void amp_bus_wait(struct amp_bus *bus);
void amp_bus_take_down(struct amp_bus *bus);
void amp_bus_pause(struct amp_bus *bus);
void amp_bus_fail(struct amp_bus *bus);

/* amp_bus.c */
extern const struct vmsg_bus_ops amp_bus_ops;
irqreturn_t amp_bus_interrupt(int irq, void *data);
irqreturn_t amp_bus_thread(int irq, void *data);
int amp_bus_call(struct amp_bus *bus, const struct vmsg_message *request,
		 struct vmsg_message *response);
void amp_bus_end_requests(struct amp_bus *bus);
void amp_flush_expired(struct timer_list *timer);

/* amp_slot.c */
void amp_slots_init(struct amp_bus *bus);
void amp_slot_event(struct amp_bus *bus, unsigned int number, u16 state);
struct vmsg_device *amp_slot_device(struct amp_slot *slot);
void amp_slots_stop(struct amp_bus *bus, bool while_up);
void amp_slots_shutdown(struct amp_bus *bus);
void amp_scan_work(struct work_struct *work);
int amp_slots_freeze(struct amp_bus *bus, bool while_up);
void amp_slots_restore(struct amp_bus *bus);

#endif /* VMSG_AMP_H */
