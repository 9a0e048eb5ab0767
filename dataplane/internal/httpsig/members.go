package httpsig

// parameter reads the next parameter if there is one.
func (s *scanner) parameter(v *value) (name []byte, ok bool, err error) {
	if !s.next(';') {
		return nil, false, nil
	}
	s.spaces()
	s.out.byte(';')
	if name, err = s.key(); err != nil {
		return nil, false, err
	}
	*v = value{kind: kindBoolean, n: 1}
	if !s.next('=') {
		return name, true, nil
	}
	s.out.byte('=')
	mark := len(s.out.b)
	if err := s.bare(v); err != nil {
		return nil, false, err
	}
	if v.kind == kindBoolean && v.n == 1 {
		s.out.b = s.out.b[:mark-1] // true goes without saying
	}
	return name, true, nil
}

func (s *scanner) parameters() error {
	var v value
	for {
		if _, ok, err := s.parameter(&v); err != nil || !ok {
			return err
		}
	}
}

// member reads an item or an inner list, with parameters.
func (s *scanner) member() error {
	var v value
	if !s.next('(') {
		if err := s.bare(&v); err != nil {
			return err
		}
		return s.parameters()
	}
	s.out.byte('(')
	for first := true; ; first = false {
		before := s.at
		s.spaces()
		if s.next(')') {
			s.out.byte(')')
			return s.parameters()
		}
		if !first && before == s.at {
			return ErrMalformed
		}
		if !first {
			s.out.byte(' ')
		}
		if err := s.bare(&v); err != nil {
			return err
		}
		if err := s.parameters(); err != nil {
			return err
		}
	}
}

// named reads a member of a dictionary.
func (s *scanner) named() (name []byte, err error) {
	if name, err = s.key(); err != nil {
		return nil, err
	}
	if !s.next('=') {
		return name, s.parameters()
	}
	s.out.byte('=')
	mark := len(s.out.b)
	if s.more() && s.in[s.at] == '?' {
		var v value
		if err := s.boolean(&v); err != nil {
			return nil, err
		}
		if v.n == 1 {
			s.out.b = s.out.b[:mark-1]
		}
		return name, s.parameters()
	}
	return name, s.member()
}

// list reads a whole field that is a list.
func (s *scanner) list() error {
	if !s.more() {
		return nil
	}
	for {
		if err := s.member(); err != nil {
			return err
		}
		if more, err := s.comma(); err != nil || !more {
			return err
		}
		s.out.text(", ")
	}
}

// dictionary reads a whole field that is a dictionary.
func (s *scanner) dictionary() error {
	if !s.more() {
		return nil
	}
	for {
		if _, err := s.named(); err != nil {
			return err
		}
		if more, err := s.comma(); err != nil || !more {
			return err
		}
		s.out.text(", ")
	}
}

// single reads a whole field that is an item.
func (s *scanner) single() error {
	var v value
	if err := s.bare(&v); err != nil {
		return err
	}
	if err := s.parameters(); err != nil {
		return err
	}
	if s.blanks(); s.more() {
		return ErrMalformed
	}
	return nil
}

// lookup reads a dictionary and writes down the value of the one member that is called key. The others are read too: of a
// field that is not well-formed nothing is believed, and of two members of one name nobody can tell which is meant.
func (s *scanner) lookup(key []byte) error {
	others := builder{mem: s.out.mem}
	times := 0
	for s.more() {
		s.out, others = others, s.out
		name, err := s.key()
		if err != nil {
			return err
		}
		wanted := string(name) == string(key)
		if wanted {
			times++
			s.out, others = others, s.out
		}
		if err := s.assigned(); err != nil {
			return err
		}
		if !wanted {
			s.out, others = others, s.out
		}
		others.b = others.b[:0]
		if more, err := s.comma(); err != nil {
			return err
		} else if !more {
			break
		}
	}
	switch times {
	case 0:
		return ErrAbsent
	case 1:
		return nil
	}
	return ErrMalformed
}

// assigned reads what follows the name of a dictionary's member; nothing stands for true.
func (s *scanner) assigned() error {
	if s.next('=') {
		return s.member()
	}
	s.out.text("?1")
	return s.parameters()
}
