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
