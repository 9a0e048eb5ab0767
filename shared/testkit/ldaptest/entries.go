package ldaptest

const (
	adminDN       = "cn=admin," + BaseDN
	adminPassword = "administers"
)

// entries are what every directory has: people with their passwords (alice: wonderland, bob: builder), two who share a mail
// address, one whose name needs escapes wherever it is written, one without a password, groups of which they are members, and a
// group of the same name elsewhere.
const entries = `
dn: ` + BaseDN + `
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: ou=system,` + BaseDN + `
objectClass: organizationalUnit
ou: system

dn: ` + ReaderDN + `
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: ` + ReaderPassword + `

dn: ` + PeopleDN + `
objectClass: organizationalUnit
ou: people

dn: uid=alice,` + PeopleDN + `
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: Liddell
mail: alice@example.test
employeeNumber: 4711
userPassword: wonderland
memberOf: cn=staff,` + GroupsDN + `
memberOf: cn=admins,` + GroupsDN + `

dn: uid=bob,` + PeopleDN + `
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: Builder
mail: bob@example.test
userPassword: builder
memberOf: cn=staff,` + GroupsDN + `
memberOf: cn=admins,ou=elsewhere,` + BaseDN + `

dn: uid=twin1,` + PeopleDN + `
objectClass: inetOrgPerson
uid: twin1
cn: Twin
sn: One
mail: twins@example.test
userPassword: same

dn: uid=twin2,` + PeopleDN + `
objectClass: inetOrgPerson
uid: twin2
cn: Twin
sn: Two
mail: twins@example.test
userPassword: same

dn: uid=Smith\2C J. (Q*A) \5C #1,` + PeopleDN + `
objectClass: inetOrgPerson
uid: Smith, J. (Q*A) \ #1
cn: Smith
sn: Smith
userPassword: s:e:c:r:e:t

dn: uid=locked,` + PeopleDN + `
objectClass: inetOrgPerson
uid: locked
cn: Locked
sn: Out

dn: ` + GroupsDN + `
objectClass: organizationalUnit
ou: groups

dn: cn=staff,` + GroupsDN + `
objectClass: groupOfNames
cn: staff
member: uid=alice,` + PeopleDN + `
member: uid=bob,` + PeopleDN + `

dn: cn=admins,` + GroupsDN + `
objectClass: groupOfNames
cn: admins
member: uid=alice,` + PeopleDN + `

dn: cn=unix,` + GroupsDN + `
objectClass: posixGroup
cn: unix
gidNumber: 1000
memberUid: bob

dn: ou=elsewhere,` + BaseDN + `
objectClass: organizationalUnit
ou: elsewhere

dn: cn=admins,ou=elsewhere,` + BaseDN + `
objectClass: groupOfNames
cn: admins
member: uid=bob,` + PeopleDN + `
`
