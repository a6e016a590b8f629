"""Message-passing and temporal blocks, one idea a file; all graph layers rest on `propagate`."""
