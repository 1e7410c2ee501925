"""What experts and activations do on data: gate tables, the route metric, routes, ranges."""
