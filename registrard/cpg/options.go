package cpg

import "time"

// Options of a connection. The zero value is good.
type Options struct {
	// QueueEvents and QueueBytes bound what waits for Next; beyond it the stream
	// ends with ErrSlowConsumer. The defaults are DefaultQueueEvents and
	// DefaultQueueBytes.
	QueueEvents int
	QueueBytes  int
}

func (o Options) queueEvents() int {
	if o.QueueEvents > 0 {
		return o.QueueEvents
	}
	return DefaultQueueEvents
}

func (o Options) queueBytes() int {
	if o.QueueBytes > 0 {
		return o.QueueBytes
	}
	return DefaultQueueBytes
}

// Config is what a replica needs to know of Corosync's configuration.
type Config struct {
	// Cluster is totem.cluster_name.
	Cluster string
	// Nodes are the configured nodes, sorted by id.
	Nodes []ConfigNode
	// Token and Consensus are the timeouts in force; a node that dies is noticed
	// after both. Zero where Corosync does not say.
	Token     time.Duration
	Consensus time.Duration
	// TwoNode and WaitForAll are options of votequorum(5) that are in force, and
	// Waiting says that WaitForAll still withholds quorum.
	TwoNode    bool
	WaitForAll bool
	Waiting    bool
	// Cipher and Hash are totem.crypto_cipher and totem.crypto_hash; empty where
	// corosync.conf leaves them out, which means none.
	Cipher string
	Hash   string
}

// ConfigNode is a configured node.
type ConfigNode struct {
	ID NodeID
	// Name is empty where corosync.conf leaves it out.
	Name string
}
