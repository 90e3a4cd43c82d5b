"""What a gateway tells of itself: health, metrics and status, over HTTP and NATS."""
