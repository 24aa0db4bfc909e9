"""What RUNs find last on their Python path: modules that CANDLE Supervisor has there."""
