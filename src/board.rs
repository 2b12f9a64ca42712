//! Board profiles: one TOML per board under `boards/`, compiled into the binary, each giving default limits.
