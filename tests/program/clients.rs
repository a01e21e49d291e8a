//! Clients that do what netlab's own does not, in python: what they find wrong is on their standard
//! error.

/// IP PORT COUNT: so many bytes come back over HTTP.
pub(crate) const LARGE_TCP: &str = "
import sys, urllib.request
ip, port, count = sys.argv[1:]
text = 'x' * int(count)
answer = urllib.request.urlopen(f'http://{ip}:{port}/echo?msg={text}', timeout=5).read().decode()
assert answer == text, len(answer)
";

/// IP PORT COUNT: so many bytes come back in a datagram, three times.
pub(crate) const LARGE_UDP: &str = "
import os, socket, sys
ip, port, count = sys.argv[1:]
data = os.urandom(int(count))
for _ in range(3):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(5)
    client.sendto(data, (ip, int(port)))
    answer = client.recv(65536)
    assert answer == data, len(answer)
";

/// SOURCE-PORT IP PORT: prints what comes of five datagrams of one socket, which are one connection for
/// the kernel: `POD CLIENT`, `refused` or `timeout`.
pub(crate) const FROM_PORT: &str = "
import socket, sys
source, ip, port = sys.argv[1:]
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.bind(('', int(source)))
client.connect((ip, int(port)))
client.settimeout(1)
for _ in range(5):
    try:
        client.send(b'netlab who')
        print(client.recv(4096).decode())
    except ConnectionRefusedError:
        print('refused')
    except TimeoutError:
        print('timeout')
";

/// IP:PORT SECONDS: stays with an endpoint as long as it comes back in time, and not for ever after.
///
/// That the kernel has forgotten a client is no event that anybody hears of: it has to be waited for. Each rest is
/// bounded by the timeout, and the number of rests by chance: of three endpoints the same one is met twenty times in
/// a row once in three thousand million times.
pub(crate) const FORGETS: &str = "
import sys, time, urllib.request
to, timeout = sys.argv[1], int(sys.argv[2])
def ask():
    return urllib.request.urlopen(f'http://{to}/hostname', timeout=5).read().decode()
for attempt in range(5):
    began, first = time.monotonic(), ask()
    last, longest, names = time.monotonic(), 0, set()
    while last - began < timeout * 1.5:
        time.sleep(timeout / 4)
        names.add(ask())
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    # A machine so busy that a client came too late has shown nothing.
    if longest < timeout * 0.9:
        assert names == {first}, f'{first} was left for {names} within {longest:.1f} s'
        break
else:
    sys.exit('this machine is too busy to come back in time')
for _ in range(20):
    time.sleep(timeout * 1.1)
    if ask() != first:
        sys.exit(0)
sys.exit(f'{first} is never forgotten')
";

/// IP PORT COUNT: prints what comes of so many INITs of SCTP, each from a port of its own: `POD CLIENT`, `refused` or
/// `timeout`. A raw socket does what an SCTP socket would, on kernels that have none too.
pub(crate) const SCTP: &str = "
import errno, random, socket, struct, sys, time
def crc(data):
    c = 0xffffffff
    for b in data:
        c ^= b
        for _ in range(8):
            c = c >> 1 ^ (0x82f63b78 if c & 1 else 0)
    return c ^ 0xffffffff
ip, port, times = sys.argv[1:]
def ask(source):
    client = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
    client.connect((ip, 0))
    client.settimeout(1)
    init = struct.pack('!BBHIIHHI', 1, 0, 20, random.getrandbits(32) | 1, 65536, 1, 1, 1)
    head = struct.pack('!HHI', source, int(port), 0)
    client.send(head + struct.pack('<I', crc(head + bytes(4) + init)) + init)
    while True:
        packet = client.recv(65536)
        data = packet[(packet[0] & 15) * 4:]
        if data[2:4] == struct.pack('!H', source) and data[12] == 2:
            length, = struct.unpack('!H', data[34:36])
            return data[36:32 + length].decode()
deadline, left = time.monotonic() + 10, int(times)
for source in random.sample(range(20000, 60000), 2000):
    try:
        print(ask(source))
    except ConnectionRefusedError:
        print('refused')
    except TimeoutError:
        print('timeout')
    except OSError as error:
        # Nobody waits for a raw socket: until the server has it, its pod knows no SCTP.
        if error.errno != errno.ENOPROTOOPT or time.monotonic() > deadline:
            raise
        time.sleep(0.1)
        continue
    left -= 1
    if not left:
        break
";
