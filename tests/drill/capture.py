"""Records every frame that a host sends, gets, or passes between its own processes. Arguments: the file to write.

The kernel fills a ring of blocks (TPACKET_V3), and whole blocks are written as they are: for a search, not for Wireshark.
SIGTERM ends it; then it prints how many frames there were, and how many the kernel had to drop.
"""

import mmap
import select
import signal
import socket
import struct
import sys

SOL_PACKET, PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 263, 5, 6, 10
TPACKET_V3, ETH_P_ALL = 2, 3
BLOCK, BLOCKS, FRAME = 1 << 20, 96, 2048
# struct tpacket_block_desc: version, offset to the private part, status, number of frames, offset of the first, length.
DESCRIPTION = struct.Struct("=IIIIII")
STATUS_AT, KERNEL, USER = 8, 0, 1


def ring():
    """A socket for whatever protocol at every interface, and its blocks."""
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    found.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
    wanted = struct.pack("=IIIIIII", BLOCK, BLOCKS, FRAME, BLOCK * BLOCKS // FRAME, 50, 0, 0)
    found.setsockopt(SOL_PACKET, PACKET_RX_RING, wanted)
    blocks = mmap.mmap(found.fileno(), BLOCK * BLOCKS, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    return found, blocks


class Recording:
    """Goes on until `end`, and then until the kernel has nothing more."""

    def __init__(self):
        self.socket, self.blocks = ring()
        self.ended = False
        signal.signal(signal.SIGTERM, self.end)

    def end(self, *_):
        self.ended = True

    def into(self, file):
        turn = 0
        while True:
            at = turn * BLOCK
            _, _, status, _, _, length = DESCRIPTION.unpack_from(self.blocks, at)
            if status & USER:
                file.write(memoryview(self.blocks)[at:at + length])
                struct.pack_into("=I", self.blocks, at + STATUS_AT, KERNEL)
                turn = (turn + 1) % BLOCKS
            elif self.ended:
                return
            else:
                select.select([self.socket], [], [], 0.2)


def main():
    recording = Recording()
    with open(sys.argv[1], "wb") as file:
        print("recording", flush=True)
        recording.into(file)
    frames, dropped = struct.unpack("=II", recording.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12)[:8])
    print(f"frames={frames} dropped={dropped}", flush=True)


if __name__ == "__main__":
    main()
