"""Small packets leave at once, as the server's browsers need them."""

import socket

from pages.kit.server.tcp_nodelay import set_tcp_nodelay


def delayed(one):
    return not one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_what_a_listening_socket_accepts_sends_at_once():
    with socket.socket(socket.AF_INET) as listening, socket.socket(socket.AF_INET) as idle:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        assert delayed(listening)
        assert set_tcp_nodelay() >= 1
        assert delayed(idle), "only what listens is meant"
        with socket.create_connection(listening.getsockname()):
            accepted, _where = listening.accept()
            with accepted:
                assert not delayed(accepted)
        assert listening.fileno() >= 0


def test_a_system_without_a_list_of_files_changes_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr("pages.kit.server.tcp_nodelay._DESCRIPTORS", str(tmp_path / "none"))
    assert set_tcp_nodelay() == 0
