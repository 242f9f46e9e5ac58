// SPDX-License-Identifier: GPL-2.0-only
/*
 * The FIFO of the driver against a device that is played by hand, outside of the
 * kernel. Ends with 1, and says where, when something is not as it should be.
 */
#include "guest/linux/test/kernel.h"

#include <stdio.h>
#include <stdlib.h>

#include "guest/linux/amp_fifo.c"
#include "guest/linux/amp_shmem.c"
#include "guest/linux/amp_spsc.c"

#define EXPECT(what) \
	do { \
		if (!(what)) { \
			printf("%s:%d: not so: %s\n", __FILE__, __LINE__, \
			       #what); \
			failures++; \
		} \
	} while (0)

static int failures;
static u64 window[AMP_WINDOW_BYTES / sizeof(u64)];
static u8 *const region = (u8 *)window + AMP_SHMEM_REGION;
static struct amp_shmem_header *const header = (void *)region;
static struct amp_fifo fifo;

/* --- Headers. --- */

static void usual(void)
{
	memset(window, 0, sizeof(window));
	header->magic = 0x4c4f;
	header->length = 64;
	header->version = 1;
	header->num_queue_elements = 8;
	header->size_queue_elements = 64;
	header->device.head_offset = 64;
	header->driver.head_offset = 72;
	header->device.elements_offset = 80;
	header->driver.elements_offset = 4112;
}

static void with_notifs(void)
{
	usual();
	header->features = 1;
	header->num_notif = 4;
	header->num_vq_notif_per_device = 16;
	header->device.notif_offset = 1024; /* 96 bytes each */
	header->driver.notif_offset = 1120;
}

static int attach(void)
{
	memset(&fifo, 0, sizeof(fifo));
	fifo.window = window;
	return amp_fifo_attach(&fifo);
}

/* The whole message, but for "header: ". NULL: sound. */
static void expect_fault(int line, const char *fault)
{
	const char *got = attach() ? fifo.fault : NULL;
	static const char prefix[] = "header: ";

	if (got && !strncmp(got, prefix, strlen(prefix)))
		got += strlen(prefix);
	if (fault ? got && !strcmp(got, fault) : !got)
		return;
	printf("%s:%d: %s, and not %s\n", __FILE__, line, got ?: "sound",
	       fault ?: "sound");
	failures++;
}

/* A header, what is changed in it, and what is said then. */
#define HEADER(make, change, fault) \
	do { \
		make(); \
		change; \
		expect_fault(__LINE__, fault); \
	} while (0)

static void test_fields(void)
{
	HEADER(usual, , NULL);
	EXPECT(fifo.ops == &amp_shmem_ops);
	HEADER(usual, header->length = 63, "a length other than 64");
	HEADER(usual, header->length = 65, "a length other than 64");
	HEADER(usual, header->version = 0, "a version other than 1");
	HEADER(usual, header->version = 2, "a version other than 1");
	HEADER(usual, header->features = 2, "an unknown feature");
	HEADER(usual, header->features = 0x8001, "an unknown feature");
	HEADER(usual, header->reserved = 1, "something in the reserved field");
	HEADER(usual, header->num_notif = 65,
	       "more than 64 notification words");
	HEADER(with_notifs, header->num_vq_notif_per_device = 0,
	       "a wrong number of notification bits per device");
	HEADER(with_notifs, header->num_vq_notif_per_device = 3,
	       "a wrong number of notification bits per device");
	HEADER(with_notifs, header->num_vq_notif_per_device = 32,
	       "a wrong number of notification bits per device");
	HEADER(usual, header->num_queue_elements = 1,
	       "queues of less than 2 elements");
	HEADER(usual, header->size_queue_elements = 0, "elements of size 0");
	HEADER(usual, header->size_queue_elements = 128,
	       "elements of another size than 64");
	HEADER(with_notifs, ,
	       "notification words, which this driver does not use");
	/* Without notification words their fields have no meaning. */
	HEADER(usual, header->num_vq_notif_per_device = 7, NULL);
	HEADER(usual, header->device.notif_offset = 3, NULL);
}

static void test_ranges(void)
{
	HEADER(with_notifs, header->device.notif_offset = 0,
	       "a notification area without an offset");
	HEADER(with_notifs, header->driver.notif_offset = 1124,
	       "a notification area that is not aligned");
	HEADER(with_notifs, header->driver.notif_offset = 8192 - 88,
	       "a notification area outside of the region");
	HEADER(usual, header->device.head_offset = 0,
	       "a queue head without an offset");
	HEADER(usual, header->driver.head_offset = 73,
	       "a queue head that is not aligned");
	HEADER(usual, header->driver.head_offset = 8186,
	       "a queue head outside of the region");
	HEADER(usual, header->device.head_offset = ~(u64)7,
	       "a queue head outside of the region");
	HEADER(usual, header->device.elements_offset = 0,
	       "elements without an offset");
	HEADER(usual, header->driver.elements_offset = 8192 - 511,
	       "elements outside of the region");
	HEADER(usual, header->driver.elements_offset = ~(u64)0,
	       "elements outside of the region");
	HEADER(usual, header->num_queue_elements = 0xffff,
	       "elements outside of the region");
	HEADER(usual, header->device.head_offset = 62, "parts that overlap");
	HEADER(usual, header->driver.head_offset = 70, "parts that overlap");
	HEADER(usual, header->driver.head_offset = 80, "parts that overlap");
	HEADER(usual, header->driver.elements_offset = 80 + 511,
	       "parts that overlap");
	HEADER(with_notifs, header->driver.notif_offset = 1112,
	       "parts that overlap");
	HEADER(with_notifs, header->device.notif_offset = 584,
	       "parts that overlap");
	/* They may touch, and end with the region. */
	HEADER(usual, header->driver.elements_offset = 8192 - 512, NULL);
}

/* --- Handshake and packets. --- */

static struct amp_shmem_head *device, *driver;

/* As odd as the rules allow. */
static void begin(u16 device_state)
{
	usual();
	header->num_queue_elements = 5;
	header->device.head_offset = 4002;
	header->driver.head_offset = 66;
	header->device.elements_offset = 101;
	header->driver.elements_offset = 6001;
	device = (void *)(region + 4002);
	driver = (void *)(region + 66);
	device->magic = 0x514f;
	device->status = device_state;
	/* From the driver before. */
	driver->status = 2;
	driver->tail = 3;
	driver->head = 2;
	EXPECT(!attach());
	EXPECT(driver->magic == 0x514f && driver->status == 0);
}

static void join(void)
{
	begin(0);
	EXPECT(amp_fifo_join(&fifo) == -EAGAIN);
	device->status = 1;
	EXPECT(!amp_fifo_join(&fifo));
	device->status = 2;
}

static void test_handshake(void)
{
	begin(2);
	device->magic = 0;
	EXPECT(amp_fifo_join(&fifo) == -EAGAIN && driver->status == 0);
	device->magic = 0x514f;
	/* It runs with the driver before. */
	EXPECT(amp_fifo_join(&fifo) == -EAGAIN && driver->status == 0);
	EXPECT(driver->tail == 3);
	device->status = 0;
	EXPECT(amp_fifo_join(&fifo) == -EAGAIN && driver->status == 1);
	EXPECT(driver->tail == 0 && driver->head == 0);
	EXPECT(amp_fifo_join(&fifo) == -EAGAIN && driver->status == 1);
	device->status = 0x8001; /* "debuggable" is no state */
	EXPECT(!amp_fifo_join(&fifo) && driver->status == 2);

	begin(3);
	EXPECT(amp_fifo_join(&fifo) == -EIO);
	EXPECT(!strcmp(fifo.fault, "the device has shut down"));
	amp_fifo_detach(&fifo);
	EXPECT(driver->status == 3);
	driver->status = 1;
	amp_fifo_detach(&fifo);
	EXPECT(driver->status == 1);
}

static void test_device_leaves(void)
{
	struct vmsg_message msg = { .words = { 1 } };

	join();
	EXPECT(!amp_fifo_watch(&fifo) && !amp_fifo_push(&fifo, &msg));
	device->status = 0;
	EXPECT(amp_fifo_push(&fifo, &msg) == -EIO);
	EXPECT(!strcmp(fifo.fault, "the device has started anew"));
	EXPECT(amp_fifo_watch(&fifo) == -EIO);
	device->status = 4;
	EXPECT(amp_fifo_pop(&fifo, &msg) == -EIO);
	EXPECT(!strcmp(fifo.fault, "the device has shut down"));
	device->status = 2;
	device->head = 5;
	EXPECT(amp_fifo_push(&fifo, &msg) == -EIO);
	EXPECT(!strcmp(fifo.fault, "an index is out of range"));
}

/* Some rounds of a full queue in each direction; indices are of this type. */
#define EXCHANGE(num, to_device, device_took, wrote, from_device, device_put, \
		 took) \
	do { \
		struct vmsg_message msg; \
		int i, round; \
 \
		for (round = 0; round < 3; round++) { \
			for (i = 1; i < (num); i++) { \
				memset(&msg, i, sizeof(msg)); \
				EXPECT(!amp_fifo_push(&fifo, &msg)); \
			} \
			EXPECT(amp_fifo_push(&fifo, &msg) == -ENOSPC); \
			for (i = 1; i < (num); i++) { \
				memset(&msg, i, sizeof(msg)); \
				EXPECT(!memcmp((to_device) + \
					       64 * (device_took), \
					       &msg, sizeof(msg))); \
				(device_took) = ((device_took) + 1) % (num); \
			} \
			EXPECT((device_took) == (wrote)); \
			for (i = 1; i < (num); i++) { \
				memset((from_device) + 64 * (device_put), \
				       0x80 + i, 64); \
				(device_put) = ((device_put) + 1) % (num); \
			} \
			for (i = 1; i < (num); i++) { \
				EXPECT(!amp_fifo_pop(&fifo, &msg)); \
				EXPECT(((u8 *)&msg)[0] == 0x80 + i); \
				EXPECT(((u8 *)&msg)[63] == 0x80 + i); \
			} \
			EXPECT(amp_fifo_pop(&fifo, &msg) == -ENODATA); \
			EXPECT((took) == (device_put)); \
		} \
	} while (0)

static void test_shmem_packets(void)
{
	join();
	EXCHANGE(5, region + 6001, device->head, driver->tail, region + 101,
		 device->tail, driver->head);
}

static void test_spsc(void)
{
	struct amp_spsc_page *tx = (void *)((u8 *)window + 0x1000);
	struct amp_spsc_page *rx = (void *)((u8 *)window + 0x2000);

	memset(window, 0, sizeof(window));
	tx->head = tx->tail = 61;
	rx->head = 7;
	EXPECT(!attach() && fifo.ops == &amp_spsc_ops);
	EXPECT(!amp_fifo_join(&fifo));
	/* What was for the driver before is skipped. */
	EXPECT(rx->tail == 7);
	EXCHANGE(62, (u8 *)tx->packets, tx->tail, tx->head, (u8 *)rx->packets,
		 rx->head, rx->tail);
	tx->head = 62;
	EXPECT(attach() == -EIO);
	tx->head = 0;
	rx->head = 62;
	EXPECT(attach() == -EIO);
	EXPECT(!strcmp(fifo.fault, "an index is out of range"));
	amp_fifo_detach(&fifo);
}

int main(void)
{
	test_fields();
	test_ranges();
	test_handshake();
	test_device_leaves();
	test_shmem_packets();
	test_spsc();
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
