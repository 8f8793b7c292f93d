"""What is done to VMs, a flow a file."""
