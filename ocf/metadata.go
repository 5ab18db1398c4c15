package ocf

import (
	"encoding/xml"
	"fmt"
	"io"
	"time"
)

// prolog names the DTD of resource-agents, which ocf-tester validates against and which knows OCF 1.0 only. In XML the first
// declaration of an attribute wins and the internal subset is read first, so the declarations here teach it the attributes of 1.1.
//
// The XML declaration names no encoding: crmsh reads the document as text, and its parser refuses a text that declares one.
const prolog = `<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd" [
<!ATTLIST parameter unique-group CDATA #IMPLIED reloadable (0|1) "0">
<!ATTLIST action name CDATA #REQUIRED>
]>
`

const (
	apiVersion = "1.1"
	language   = "en"
)

// Metadata describes an agent to the cluster's tools.
type Metadata struct {
	Name       string
	Version    string // of the agent
	Short      string // one line
	Long       string
	Parameters []Parameter
	Actions    []ActionSpec
}

// ParameterType is the type of a parameter's value.
type ParameterType string

// The types that the schemas of OCF 1.0 and 1.1 both know. "select" of 1.1 is not among them: it fails the older DTD.
const (
	TypeString  ParameterType = "string"
	TypeInteger ParameterType = "integer"
	TypeBoolean ParameterType = "boolean"
)

// Parameter is one parameter of the resource.
type Parameter struct {
	Name        string
	Type        ParameterType
	Default     string
	Short       string
	Long        string
	Required    bool
	UniqueGroup string // parameters with the same group must not be equal together in two resources
	Reloadable  bool   // a change needs reload-agent, not a restart
}

// ActionSpec advertises an action; its timeout and interval are the least that the agent's author advises.
type ActionSpec struct {
	Action   Action
	Timeout  time.Duration
	Interval time.Duration // of a recurring action; each of the same name needs another one
	Depth    int           // check level of a monitor
	Role     Role
}

// Encode writes the document.
func (m Metadata) Encode(w io.Writer) error {
	body, err := xml.MarshalIndent(m.document(), "", "  ")
	if err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	if _, err := fmt.Fprintf(w, "%s%s\n", prolog, body); err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	return nil
}

type xmlDocument struct {
	XMLName    xml.Name       `xml:"resource-agent"`
	Name       string         `xml:"name,attr"`
	AgentVer   string         `xml:"version,attr,omitempty"`
	Version    string         `xml:"version"`
	Long       xmlText        `xml:"longdesc"`
	Short      xmlText        `xml:"shortdesc"`
	Parameters []xmlParameter `xml:"parameters>parameter"`
	Actions    []xmlAction    `xml:"actions>action"`
}

type xmlText struct {
	Lang string `xml:"lang,attr"`
	Text string `xml:",chardata"`
}

type xmlParameter struct {
	Name        string     `xml:"name,attr"`
	Required    string     `xml:"required,attr,omitempty"`
	UniqueGroup string     `xml:"unique-group,attr,omitempty"`
	Reloadable  string     `xml:"reloadable,attr,omitempty"`
	Long        xmlText    `xml:"longdesc"`
	Short       xmlText    `xml:"shortdesc"`
	Content     xmlContent `xml:"content"`
}

type xmlContent struct {
	Type    string `xml:"type,attr"`
	Default string `xml:"default,attr"`
}

type xmlAction struct {
	Name     string `xml:"name,attr"`
	Timeout  string `xml:"timeout,attr"`
	Interval string `xml:"interval,attr,omitempty"`
	Depth    string `xml:"depth,attr,omitempty"`
	Role     string `xml:"role,attr,omitempty"`
}

// document puts the metadata into the order of elements that the DTD wants.
func (m Metadata) document() xmlDocument {
	d := xmlDocument{
		Name: m.Name, AgentVer: m.Version, Version: apiVersion,
		Long: xmlText{language, m.Long}, Short: xmlText{language, m.Short},
	}
	for _, p := range m.Parameters {
		d.Parameters = append(d.Parameters, xmlParameter{
			Name: p.Name, Required: flag(p.Required), UniqueGroup: p.UniqueGroup, Reloadable: flag(p.Reloadable),
			Long: xmlText{language, p.Long}, Short: xmlText{language, p.Short},
			Content: xmlContent{Type: string(p.Type), Default: p.Default},
		})
	}
	for _, a := range m.Actions {
		x := xmlAction{Name: string(a.Action), Timeout: seconds(a.Timeout), Role: string(a.Role)}
		if a.Interval > 0 {
			x.Interval = seconds(a.Interval)
		}
		if a.Action == Monitor {
			x.Depth = fmt.Sprint(a.Depth)
		}
		d.Actions = append(d.Actions, x)
	}
	return d
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return ""
}

func seconds(d time.Duration) string { return fmt.Sprintf("%ds", int(d/time.Second)) }
