"""What a request costs, beside peers, and whether it costs more as more is stored: `scripts/bench.sh`."""
