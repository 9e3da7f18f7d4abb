"""Pure logic, without a broker: all of it within two seconds."""
