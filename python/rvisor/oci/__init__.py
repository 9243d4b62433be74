"""`runrsc`: the OCI runtime of rVisor, for Docker, Podman and containerd. `docs/design/oci.md`."""
