/*
 * What does not change from one machine to the next: ACPI 6.4 source, compiled
 * by iasl when the library is built. The numbers that the VMM decides when it
 * runs are integers of a second table (SSDT), which acpi_tables.cc writes:
 *
 *   ECAB, ECAL  PCI Express configuration space: base, length
 *   W32B, W32L  PCI window below 4 GiB
 *   W64B, W64L  PCI window above 4 GiB; length 0: none
 */
DefinitionBlock ("", "DSDT", 2, "VMSG", "VMSGDSDT", 0x00000001)
{
    External (\ECAB, IntObj)
    External (\ECAL, IntObj)
    External (\W32B, IntObj)
    External (\W32L, IntObj)
    External (\W64B, IntObj)
    External (\W64L, IntObj)

    /* 7.4.2.6: what the guest writes to SLP_TYP to switch the machine off. */
    Name (\_S5, Package (4) { 0x05, 0x05, 0x00, 0x00 })

    Scope (\_SB)
    {
        /* PCI Firmware Specification 3.3, 4.1 and 4.3. */
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_UID, Zero)
            Name (_SEG, Zero)
            Name (_BBN, Zero)

            Name (BASE, ResourceTemplate ()
            {
                /* One bus: the ECAM has room for no more. */
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0x0000, 0x0000, 0x0000, 0x0000, 0x0001)
                IO (Decode16, 0x0CF8, 0x0CF8, 0x01, 0x08)
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
                    NonCacheable, ReadWrite,
                    0x0, 0x0, 0x0, 0x0, 0x1,,, W32R)
            })
            Name (HIGH, ResourceTemplate ()
            {
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
                    Cacheable, ReadWrite,
                    0x0, 0x0, 0x0, 0x0, 0x1,,, W64R)
            })

            Method (_CRS, 0, Serialized)
            {
                CreateQWordField (BASE, ^W32R._MIN, MIN3)
                CreateQWordField (BASE, ^W32R._MAX, MAX3)
                CreateQWordField (BASE, ^W32R._LEN, LEN3)
                MIN3 = \W32B
                MAX3 = \W32B + \W32L - 1
                LEN3 = \W32L
                If (\W64L == 0)
                {
                    Return (BASE)
                }
                CreateQWordField (HIGH, ^W64R._MIN, MIN6)
                CreateQWordField (HIGH, ^W64R._MAX, MAX6)
                CreateQWordField (HIGH, ^W64R._LEN, LEN6)
                MIN6 = \W64B
                MAX6 = \W64B + \W64L - 1
                LEN6 = \W64L
                Return (ConcatenateResTemplate (BASE, HIGH))
            }

            /*
             * 6.2.11: the guest asks for control of native features. There are
             * none on this bus to control, so it gets none.
             */
            Method (_OSC, 4, NotSerialized)
            {
                CreateDWordField (Arg3, Zero, CDW1)
                If (Arg0 != ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766"))
                {
                    CDW1 |= 0x04    /* unrecognized UUID */
                    Return (Arg3)
                }
                If (Arg1 != One)
                {
                    CDW1 |= 0x08    /* unrecognized revision */
                    Return (Arg3)
                }
                If (Arg2 >= 3)
                {
                    CreateDWordField (Arg3, 0x08, CDW3)
                    If (CDW3 != Zero)
                    {
                        CDW1 |= 0x10    /* capabilities masked */
                        CDW3 = Zero
                    }
                }
                Return (Arg3)
            }
        }

        /* The place of the ECAM, which is in no window. */
        Device (MBRD)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, One)
            Name (RSRC, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0x0, 0x0, ECAR)
            })
            Method (_CRS, 0, Serialized)
            {
                CreateDWordField (RSRC, ^ECAR._BAS, BASE)
                CreateDWordField (RSRC, ^ECAR._LEN, LENG)
                BASE = \ECAB
                LENG = \ECAL
                Return (RSRC)
            }
        }

        /* A 16550. */
        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, Zero)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x03F8, 0x03F8, 0x01, 0x08)
                IRQNoFlags () { 4 }
            })
        }
    }
}
