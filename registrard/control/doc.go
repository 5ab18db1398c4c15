// Package control is the control API of the daemon: what an operator and the resource agent may ask of it.
//
// Its core is a Unix socket that carries JSON lines and knows its callers by their peer credentials (Server). The D-Bus object
// org.sipha.Registrard1 is a facade over the same Service (Bus); a dead bus is never an error of the service. Client speaks to either.
//
// On the socket a request is one line
//
//	{"id":1,"method":"status","params":{...},"timeout_ms":5000}
//
// and is answered by one line
//
//	{"id":1,"result":{...}}
//	{"id":1,"error":{"code":"not_primary","message":"...","hint":"..."}}
//
// Requests of one connection are answered one after the other. Root and the user that the daemon runs as may do everything; members
// of the reading group (haclient) may call the methods that change nothing; everybody else gets the error "permission".
package control
