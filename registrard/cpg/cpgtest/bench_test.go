package cpgtest_test

import (
	"math/rand/v2"
	"testing"

	"sipha/registrard/cpg"
	"sipha/registrard/cpg/cpgtest"
)

// BenchmarkWorld is one message to three processes, steps chosen by chance.
func BenchmarkWorld(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	w := cpgtest.NewWorld(three())
	w.Settle(nil)
	var ps []*cpgtest.Process
	for id := cpg.NodeID(1); id <= 3; id++ {
		p, err := w.Start(id, 1)
		if err != nil {
			b.Fatal(err)
		}
		ps = append(ps, p)
	}
	data := make([]byte, 100)
	steps := 0
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := ps[i%3].TryMulticast(data); err != nil && i > 100 {
			w.Settle(func(cpgtest.Delivery) {})
		}
		for range 7 {
			if _, _, ok := w.Step(rng); ok {
				steps++
			}
		}
	}
	b.ReportMetric(float64(steps)/float64(b.N), "steps/op")
}
