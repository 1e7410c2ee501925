"""What experts and activations do on data: gate tables, routes and their metric."""
